//! What `perf report` says, line by line: how many samples fell into which symbol, on which thread.

/// Between the columns of the report. No symbol, no thread and no file has one in its name: perf would replace it.
pub(crate) const SEPARATOR: &str = "\t";

/// The columns of the report, as `perf report --fields` names them.
pub(crate) const FIELDS: &str = "sample,comm,dso,sym";

/// How often one symbol was seen at work on threads of one name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Samples {
    /// How often.
    pub(crate) count: u64,
    /// The thread's name.
    pub(crate) thread: String,
    /// The file that the symbol is from.
    pub(crate) object: String,
    /// The symbol, without the mark by which perf tells the kernel's from others.
    pub(crate) symbol: String,
}

/// A line of the report that is none of what is expected.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a line of perf's report has another form: {0}")]
pub(crate) struct Unreadable(String);

/// Reads a report with the columns [`FIELDS`].
///
/// # Errors
/// A line has other columns.
pub(crate) fn parse(report: &str) -> Result<Vec<Samples>, Unreadable> {
    let lines = report.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines.map(|line| parse_line(line).ok_or_else(|| Unreadable(line.to_owned()))).collect()
}

fn parse_line(line: &str) -> Option<Samples> {
    let mut columns = line.split(SEPARATOR).map(str::trim);
    let (count, thread, object, symbol) = (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
    if columns.next().is_some() {
        return None;
    }
    // `[k]` is the kernel's, `[.]` anybody's: the file says the same.
    let (mark, name) = symbol.split_once(' ')?;
    let is_mark = mark.len() == 3 && mark.starts_with('[') && mark.ends_with(']');
    let samples = Samples {
        count: count.parse().ok()?,
        thread: thread.to_owned(),
        object: object.to_owned(),
        symbol: name.trim().to_owned(),
    };
    is_mark.then_some(samples)
}

/// The number of an event in what `perf stat -x ,` says; `None` if it was not counted.
pub(crate) fn counted(stat: &str, event: &str) -> Option<u64> {
    let line = stat.lines().find(|line| line.contains(event))?;
    line.split(',').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{FIELDS, SEPARATOR, Samples, counted, parse};

    #[test]
    fn a_report_is_read() {
        let report = "# Samples: 3K of event 'cpu-clock:ppp'\n\n 316        \twal-commit \t[kernel.kallsyms]\t[k] \
                      ext4_write_end\n 7\tquorate-server \tquorate-server   \t[.] <A<B> as C>::f::{{closure}}\n";
        let samples = |count, thread: &str, object: &str, symbol: &str| Samples {
            count,
            thread: thread.to_owned(),
            object: object.to_owned(),
            symbol: symbol.to_owned(),
        };
        let expected = [
            samples(316, "wal-commit", "[kernel.kallsyms]", "ext4_write_end"),
            samples(7, "quorate-server", "quorate-server", "<A<B> as C>::f::{{closure}}"),
        ];
        assert_eq!(parse(report).expect("each line is one of perf's"), expected);
    }

    #[test]
    fn each_column_that_perf_is_asked_for_is_read() {
        let column = |field| match field {
            "sample" => "7",
            "sym" => "[k] f",
            name => name,
        };
        let line = FIELDS.split(',').map(column).collect::<Vec<_>>().join(SEPARATOR);
        let expected =
            Samples { count: 7, thread: "comm".to_owned(), object: "dso".to_owned(), symbol: "f".to_owned() };
        assert_eq!(parse(&line).expect("a line with these columns is read"), [expected]);
    }

    #[test]
    fn a_line_of_another_form_is_told() {
        let lines = [
            "12\tmain\tserver",
            "12\tmain\tserver\t[.] f\tmore",
            "12.5%\tmain\tserver\t[.] f",
            "12\tmain\tserver\tf of a closure",
        ];
        for line in lines {
            let error = parse(line).expect_err(line);
            assert!(error.to_string().ends_with(line), "{error}");
        }
    }

    #[test]
    fn counts_are_read_and_what_was_not_counted_is_none() {
        let stat = "1234,,raw_syscalls:sys_enter,1000,100.00,,\n<not supported>,,page-faults,0,100.00,,\n";
        assert_eq!(counted(stat, "raw_syscalls:sys_enter"), Some(1234));
        assert_eq!(counted(stat, "page-faults"), None);
        assert_eq!(counted(stat, "cycles"), None);
    }
}
