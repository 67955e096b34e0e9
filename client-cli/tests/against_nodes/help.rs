//! The help of each command as it was agreed on: one golden file each, in `tests/golden/help`. After a change that is
//! meant, `QUORATE_GOLDEN=rewrite cargo test -p client-cli help` writes them anew.

use crate::command_line::{done, run};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The widest line of a help.
const COLUMNS_MAX: usize = 80;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/help")
}

/// The commands that the help lists, and the empty name of none.
pub(crate) fn commands() -> Vec<String> {
    let help = run(&[], &["--help"]).1;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let names: Vec<String> = std::iter::once("").chain(names).map(str::to_owned).collect();
    assert!(names.len() > 10, "{help}");
    names
}

#[test]
fn each_help_is_as_it_was_agreed_on() {
    let rewrite = std::env::var_os("QUORATE_GOLDEN").is_some_and(|value| value == "rewrite");
    let mut files = BTreeSet::new();
    for name in commands() {
        let help = match name.as_str() {
            "" => run(&[], &["--help"]),
            name => run(&[], &[name, "--help"]),
        };
        assert_eq!(help, done(&help.1), "{name}");
        let wide = help.1.lines().find(|line| line.chars().count() > COLUMNS_MAX);
        assert_eq!(wide, None, "more than {COLUMNS_MAX} columns in the help of {name:?}");
        let file = format!("{}.txt", if name.is_empty() { "client-cli" } else { &name });
        let path = folder().join(&file);
        if rewrite {
            fs::write(&path, &help.1).expect("the golden file can be written");
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert!(golden == help.1, "{} differs from what it is now:\n{}", path.display(), help.1);
        files.insert(file);
    }
    let kept: BTreeSet<String> = fs::read_dir(folder())
        .expect("the folder can be read")
        .map(|entry| entry.expect("an entry can be read").file_name().into_string().expect("names are text"))
        .collect();
    assert_eq!(kept, files, "a golden file without a command");
}
