//! The end of standard input as a sign that the program that started this one is gone.
//!
//! The other end of a pipe closes whatever its holder dies of, `kill -9` included, and no signal, timer or platform is
//! needed to notice.

use std::io::{self, Read as _};
use std::time::Duration;

use tokio::sync::oneshot;

/// How long the process may take to shut down once standard input has ended; after it, it is ended by force, because
/// nobody is left who would.
const SHUTDOWN_MAX: Duration = Duration::from_secs(10);

/// Watches standard input on a thread of its own, and resolves when it has ended. What is read from it is ignored.
///
/// # Errors
///
/// If the thread cannot be started.
pub fn watch_stdin() -> io::Result<impl Future<Output = ()>> {
    let (ended, when_ended) = oneshot::channel();
    // A thread and not tokio's standard input: a read that never returns would keep the runtime from shutting down.
    std::thread::Builder::new().name("lifeline".to_owned()).spawn(move || {
        let mut ignored = [0; 256];
        let mut stdin = io::stdin().lock();
        loop {
            match stdin.read(&mut ignored) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // An error ends it as well: there is nothing to watch any more.
                Ok(0) | Err(_) => break,
            }
        }
        // Nobody listens if the process is shutting down for another reason.
        let _ = ended.send(());
        std::thread::sleep(SHUTDOWN_MAX);
        std::process::exit(1);
    })?;
    Ok(async move {
        // The sender is only dropped after it has sent.
        let _ = when_ended.await;
    })
}
