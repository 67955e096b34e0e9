//! A line diff for people: the longest common subsequence, with a few lines of context.

/// Unchanged lines shown around a change.
const CONTEXT: usize = 3;

/// One line of a diff.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Removed(&'a str),
    Added(&'a str),
}

/// What turns `old` into `new`: removed lines begin with `-`, added ones with `+`.
pub(crate) fn lines(old: &str, new: &str) -> String {
    let old: Vec<&str> = old.lines().collect();
    let new: Vec<&str> = new.lines().collect();
    render(&compare(&old, &new))
}

fn compare<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let lengths = common_lengths(old, new);
    let (mut i, mut j) = (0, 0);
    let mut result = Vec::with_capacity(old.len().max(new.len()));
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            result.push(Line::Same(old[i]));
            i += 1;
            j += 1;
        } else if j == new.len() || (i < old.len() && lengths[i + 1][j] >= lengths[i][j + 1]) {
            result.push(Line::Removed(old[i]));
            i += 1;
        } else {
            result.push(Line::Added(new[j]));
            j += 1;
        }
    }
    result
}

/// `table[i][j]`: the length of the longest common subsequence of `old[i..]` and `new[j..]`.
fn common_lengths(old: &[&str], new: &[&str]) -> Vec<Vec<usize>> {
    let mut table = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            table[i][j] = if old[i] == new[j] { table[i + 1][j + 1] + 1 } else { table[i + 1][j].max(table[i][j + 1]) };
        }
    }
    table
}

fn render(lines: &[Line<'_>]) -> String {
    let changed: Vec<bool> = lines.iter().map(|line| !matches!(line, Line::Same(_))).collect();
    let mut output = String::new();
    let mut skipped = false;
    for (number, line) in lines.iter().enumerate() {
        let from = number.saturating_sub(CONTEXT);
        let to = (number + CONTEXT + 1).min(lines.len());
        if !changed[from..to].contains(&true) {
            skipped = true;
            continue;
        }
        if skipped {
            output.push_str("  …\n");
            skipped = false;
        }
        let (mark, text) = match line {
            Line::Same(text) => (' ', text),
            Line::Removed(text) => ('-', text),
            Line::Added(text) => ('+', text),
        };
        output.push(mark);
        output.push(' ');
        output.push_str(text);
        output.push('\n');
    }
    output
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn a_change_is_shown_with_its_context() {
        let diff = lines("a\nb\nc\nd\ne\nf", "a\nb\nc\nd\nE\nf\ng");
        assert_eq!(diff, "  …\n  b\n  c\n  d\n- e\n+ E\n  f\n+ g\n");
    }

    #[test]
    fn equal_texts_have_no_difference() {
        assert_eq!(lines("a\nb", "a\nb"), "");
    }
}
