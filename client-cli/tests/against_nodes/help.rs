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

/// The commands that the helps list, those under others with their words, and the empty name of none.
pub(crate) fn commands() -> Vec<String> {
    let mut names = vec![String::new()];
    let mut next = 0;
    while let Some(name) = names.get(next).cloned() {
        let help = help(&name).1;
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        let under = listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
        names.extend(under.map(|under| format!("{name} {under}").trim_start().to_owned()));
        next += 1;
    }
    assert!(names.len() > 10, "{names:?}");
    names
}

/// Asks for the help of a command.
pub(crate) fn help(name: &str) -> (i32, String, String) {
    run(&[], &name.split_whitespace().chain(["--help"]).collect::<Vec<_>>())
}

#[test]
fn each_help_is_as_it_was_agreed_on() {
    let rewrite = std::env::var_os("QUORATE_GOLDEN").is_some_and(|value| value == "rewrite");
    let mut files = BTreeSet::new();
    for name in commands() {
        let help = help(&name);
        assert_eq!(help, done(&help.1), "{name}");
        let wide = help.1.lines().find(|line| line.chars().count() > COLUMNS_MAX);
        assert_eq!(wide, None, "more than {COLUMNS_MAX} columns in the help of {name:?}");
        let file = format!("{}.txt", if name.is_empty() { "client-cli".to_owned() } else { name.replace(' ', "-") });
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
