//! Panics of the core as values: an assertion that fails is a finding, not the end of the search.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// While a step is taken in this thread: what its panic said, empty until there is one.
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What `step` returns, or what it said when it panicked, without a word on standard error.
pub(crate) fn caught<T>(step: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let outer = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let ours = CAUGHT.with_borrow_mut(|caught| caught.as_mut().map(|text| *text = info.to_string()).is_some());
            if !ours {
                outer(info);
            }
        }));
    });
    CAUGHT.set(Some(String::new()));
    let result = panic::catch_unwind(AssertUnwindSafe(step));
    let text = CAUGHT.take().unwrap_or_default();
    result.map_err(|_| text.replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_words() {
        assert_eq!(caught(|| 7), Ok(7));
        let said = caught(|| assert_eq!(1, 2, "one is not two")).expect_err("it panics");
        assert!(said.contains("one is not two"), "{said}");
    }
}
