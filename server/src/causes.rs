//! An error with all its causes, on one line: libraries' own texts are often no more than "transport error".

use std::error::Error;

/// The texts of `error` and of its causes, the outermost first. One that repeats the one before is left out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
