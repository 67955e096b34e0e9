//! Every mutant fits the code as it is now. Whether each is killed is for `cargo sim mutants` to say.

use std::collections::BTreeSet;

use mutants::{Hunter, Mutant, TestName, all, files_below, root, weave};

fn mutants() -> Vec<Mutant> {
    all().expect("every patch can be read")
}

#[test]
fn every_mutant_applies() {
    let mutants = mutants();
    let files: BTreeSet<&str> = mutants.iter().flat_map(Mutant::files).collect();
    let mut switched = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(root().join(file)).expect("the file of a patch");
        let switch = |number| format!("on({number})");
        let woven = weave(file, &text, &mutants, &switch).unwrap_or_else(|error| panic!("{error}"));
        switched.extend((1..=mutants.len()).filter(|number| woven.contains(&switch(*number))));
    }
    for (mutant, number) in mutants.iter().zip(1..) {
        assert!(switched.contains(&number), "{} has no switch", mutant.name);
    }
}

#[test]
fn names_and_rows_make_sense() {
    let mutants = mutants();
    assert!(mutants.len() >= 130, "only {} mutants", mutants.len());
    let names: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.name.as_str()).collect();
    assert_eq!(names.len(), mutants.len(), "two mutants share a name");
    for Mutant { name, row, bug, .. } in &mutants {
        let (section, number) = row.split_at(1);
        assert!("ABCDEFGH".contains(section) && number.parse::<u8>().is_ok(), "{name}: row {row}");
        assert!(bug.ends_with('.'), "{name}: {bug}");
    }
}

/// A test that was renamed would be missed only by the hunt.
#[test]
fn the_tests_that_hunt_are_there() {
    for mutant in mutants() {
        for hunter in &mutant.hunters {
            let Hunter::Test(TestName { package, target, path }) = hunter else { continue };
            let folder = root().join("server").join(package);
            let folder = if target == "lib" { folder.join("src") } else { folder.join("tests").join(target) };
            let name = path.rsplit("::").next().expect("a path has a last part");
            let function = format!("fn {name}()");
            let files = files_below(&folder).unwrap_or_else(|error| panic!("{}: {error}", mutant.name));
            let holds = |file| std::fs::read_to_string(file).is_ok_and(|text| text.contains(&function));
            assert!(files.iter().any(holds), "{}: there is no `{function}` below {}", mutant.name, folder.display());
        }
    }
}
