//! What is made out of the definition of the command line: completion scripts and manual pages.

use crate::{
    command_line::{BINARY, binary, result, run},
    help::{commands, help},
};
use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// The script of a shell, after the shell itself has read it without a complaint, if it is installed.
fn script(shell: &str) -> String {
    let (code, script, stderr) = run(&[], &["completions", shell]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{shell}");
    let file = tempfile::NamedTempFile::new().expect("a file can be made");
    fs::write(file.path(), &script).expect("it can be written");
    let check = Command::new(shell).arg("-n").arg(file.path()).stdin(Stdio::null()).output();
    match check {
        Ok(output) => assert_eq!(result(&output), (0, String::new(), String::new()), "{shell} -n"),
        Err(error) => eprintln!("{shell} is not here to read its script: {error}"),
    }
    script
}

/// The long options in the help of a command.
fn options(name: &str) -> BTreeSet<String> {
    let help = help(name).1;
    let listed = help.lines().filter(|line| line.starts_with("  ")).flat_map(str::split_whitespace);
    let options = listed.filter(|word| word.starts_with("--")).map(|word| word.trim_end_matches(['.', ',']).to_owned());
    let options: BTreeSet<String> = options.filter(|word| word.len() > 2).collect();
    assert!(options.contains("--endpoints"), "{help}");
    options
}

#[test]
fn each_shell_completes_each_command_and_option() {
    for shell in ["bash", "zsh", "fish"] {
        let script = script(shell);
        for name in commands() {
            let word = name.split(' ').next_back().expect("there is always one");
            assert!(script.contains(word), "{shell}: {name}");
            for option in options(&name) {
                let option = if shell == "fish" { option.trim_start_matches('-') } else { &option };
                assert!(script.contains(option), "{shell}: {option} of {name}");
            }
        }
    }
    assert_eq!(run(&[], &["completions", "tcsh"]).0, 1);
}

#[test]
fn bash_completes_as_one_types() {
    let complete = |words: &[&str]| {
        let typed = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let script = format!(
            "source <({BINARY} completions bash); COMP_WORDS=({typed}); COMP_CWORD={}; \
             _client__cli client-cli '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2],
        );
        Command::new("bash").args(["-c", &script]).output()
    };
    let Ok(output) = complete(&["client-cli", "me"]) else {
        eprintln!("bash is not here");
        return;
    };
    assert_eq!(result(&output), (0, "members\n".to_owned(), String::new()));
    let options = complete(&["client-cli", "put", "--up"]).expect("bash is here");
    assert_eq!(result(&options), (0, "--upsert\n--update\n".to_owned(), String::new()));
    let values = complete(&["client-cli", "completions", "f"]).expect("bash is here");
    assert_eq!(result(&values), (0, "fish\n".to_owned(), String::new()));
}

/// The text of a page, without the marks of roff.
fn plain(page: &Path) -> String {
    let page = fs::read_to_string(page).expect("the page is there");
    page.replace("\\-", "-").replace("\\fB", "").replace("\\fI", "").replace("\\fR", "")
}

#[test]
fn the_manual_has_a_page_for_each_command_with_each_option() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let inner = folder.path().join("man/man1");
    let written = binary(&[]).arg("man").arg("--dir").arg(&inner).output().expect("it can be run");
    assert_eq!(result(&written), (0, String::new(), String::new()));
    let names = commands();
    let main = plain(&inner.join("client-cli.1"));
    for name in &names {
        let page = match name.as_str() {
            "" => main.clone(),
            name => {
                let (above, file) = (name.rsplit_once(' '), name.replace(' ', "-"));
                let above = above.map_or(main.clone(), |(above, _)| {
                    plain(&inner.join(format!("client-cli-{}.1", above.replace(' ', "-"))))
                });
                assert!(above.contains(&format!("client-cli-{file}(1)")), "{name} in {above}");
                plain(&inner.join(format!("client-cli-{file}.1")))
            }
        };
        for option in options(name) {
            assert!(page.contains(&option), "{option} of {name} in {page}");
        }
    }
    assert_eq!(fs::read_dir(&inner).expect("it is there").count(), names.len());
    assert!(main.contains(".SH \"EXIT CODES\"\n.nf\n  0  done\n"), "{main}");

    let printed = run(&[], &["man"]);
    assert_eq!(printed.0, 0);
    assert_eq!(printed.1, fs::read_to_string(inner.join("client-cli.1")).expect("it is there"));
    let nowhere = run(&[], &["man", "--dir", "/dev/null/x"]);
    assert_eq!((nowhere.0, nowhere.1.as_str()), (1, ""));
    assert!(nowhere.2.starts_with("error: make /dev/null/x: "), "{}", nowhere.2);
}
