//! The threads that serve clients, each with a runtime and connections of its own.
//!
//! The node's loop lives on the main thread. A runtime of one thread runs everything that is ready before it looks at a
//! connection again, so that the answers of one turn of the loop leave a connection together. A runtime that shares its
//! tasks among threads writes them one by one, which is four times the system calls, and wakes threads for tasks that
//! are done sooner than a thread wakes up. So there are more threads only where there are processors to spare for them,
//! and a connection stays on its thread.

use std::future::Future;
use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::TcpIncoming;
use tracing::warn;

/// How many connections may wait for their thread: it takes them at once unless it is busy beyond hope, and then new
/// ones wait in the kernel's queue.
const CONNECTIONS_WAITING_MAX: usize = 64;

/// How long no connection is accepted after one could not be, which is when there are too many: without a pause, trying
/// again would take a whole processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// With so many processors the main thread serves clients as well: measured on two, a second thread cost more than it
/// took off the first.
const PROCESSORS_FOR_ONE: usize = 2;

/// No more threads than this serve clients: together they keep the loop, which is one thread, busy.
const CLIENT_THREADS_MAX: usize = 8;

/// How many threads serve clients beside the main one, on a machine with so many processors: half of them, because the
/// loop, the log's threads and the other programs of the machine want the rest.
pub(crate) fn client_threads(processors: usize) -> usize {
    if processors <= PROCESSORS_FOR_ONE { 0 } else { (processors / 2).min(CLIENT_THREADS_MAX) }
}

/// The connections of one thread.
pub(crate) type Connections = ReceiverStream<io::Result<TcpStream>>;

/// The connections that a listener accepts.
pub(crate) fn connections(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> {
    // The server's own setting does not reach connections that it is handed. Without it a small answer waits until the
    // one before it is acknowledged, which the other end may put off.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    incoming.then(|connection| async {
        if let Err(error) = &connection {
            warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        connection
    })
}

/// A runtime of one thread, for the thread that calls.
///
/// # Errors
///
/// The system gives no means to wait for events.
pub(crate) fn single() -> io::Result<runtime::Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

/// Threads that serve connections.
pub(crate) struct ClientThreads {
    handovers: Vec<mpsc::Sender<std::net::TcpStream>>,
    threads: Vec<JoinHandle<()>>,
}

impl ClientThreads {
    /// Starts `count` threads. Each runs what `serve` makes of its connections, to the end.
    ///
    /// # Errors
    ///
    /// The system gives no thread or no runtime.
    pub(crate) fn start<F>(count: usize, serve: impl Fn(Connections) -> F + Clone + Send + 'static) -> io::Result<Self>
    where
        F: Future<Output = ()>,
    {
        let (mut handovers, mut threads) = (Vec::new(), Vec::new());
        for number in 1..=count {
            let (handover, connections) = mpsc::channel(CONNECTIONS_WAITING_MAX);
            let (runtime, serve) = (single()?, serve.clone());
            let body = move || {
                runtime.block_on(serve_here(connections, serve));
                runtime.shutdown_background();
            };
            threads.push(Builder::new().name(format!("clients-{number}")).spawn(body)?);
            handovers.push(handover);
        }
        Ok(Self { handovers, threads })
    }

    /// Hands each connection to the next thread in turn until `stopped`, and waits for the threads to end.
    pub(crate) async fn feed(
        self,
        connections: impl Stream<Item = io::Result<TcpStream>>,
        stopped: impl Future<Output = ()>,
    ) {
        let Self { handovers, threads } = self;
        let hand_over = async {
            tokio::pin!(connections);
            for handover in handovers.iter().cycle() {
                // One that could not be accepted was told, and one that cannot be taken from this runtime is gone.
                let Some(connection) = connections.next().await else { return };
                let Ok(connection) = connection.and_then(TcpStream::into_std) else { continue };
                if handover.send(connection).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = hand_over => {}
            () = stopped => {}
        }
        drop(handovers);
        let joined = tokio::task::spawn_blocking(|| threads.into_iter().all(|thread| thread.join().is_ok()));
        if !joined.await.is_ok_and(|ended_well| ended_well) {
            warn!("a thread that served clients panicked");
        }
    }
}

/// Serves the connections that are handed over, on this thread's runtime.
async fn serve_here<F: Future<Output = ()>>(
    mut handed: mpsc::Receiver<std::net::TcpStream>,
    serve: impl Fn(Connections) -> F,
) {
    let (sender, connections) = mpsc::channel(1);
    let adopt = async move {
        while let Some(connection) = handed.recv().await {
            if sender.send(TcpStream::from_std(connection)).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(adopt, serve(ReceiverStream::new(connections)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;

    /// Tells each connection the name of the thread that serves it.
    async fn tell_thread(mut connections: Connections) {
        while let Some(Ok(mut connection)) = connections.next().await {
            let name = thread::current().name().expect("it was given one").to_owned();
            connection.write_all(name.as_bytes()).await.expect("it is read");
        }
    }

    #[test]
    fn small_machines_have_no_thread_more() {
        assert_eq!([1, 2, 4, 16, 64].map(client_threads), [0, 0, 2, 8, 8]);
    }

    #[tokio::test]
    async fn connections_are_served_in_turn_by_each_thread_until_it_is_stopped() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let threads = ClientThreads::start(2, tell_thread).expect("two threads");
        let (stop, stopped) = oneshot::channel::<()>();
        let fed = tokio::spawn(threads.feed(connections(listener), async { drop(stopped.await) }));
        let mut names = Vec::new();
        for _ in 0..4 {
            let mut connection = TcpStream::connect(address).await.expect("it listens");
            let mut name = String::new();
            connection.read_to_string(&mut name).await.expect("it tells and closes");
            names.push(name);
        }
        assert_eq!(names, ["clients-1", "clients-2", "clients-1", "clients-2"]);
        stop.send(()).expect("it is fed");
        fed.await.expect("no panic");
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    }

    #[tokio::test]
    async fn a_thread_that_panics_takes_nobody_along() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let threads = ClientThreads::start(1, async |_: Connections| panic!("as a bug would")).expect("a thread");
        let fed = tokio::spawn(threads.feed(connections(listener), std::future::pending()));
        // The thread is gone, or about to be: sooner or later a connection cannot be handed over.
        while !fed.is_finished() {
            drop(TcpStream::connect(address).await);
            tokio::task::yield_now().await;
        }
        fed.await.expect("no panic here");
    }
}
