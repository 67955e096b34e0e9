//! Where everyone's lines come together: put in order by time, and printed.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::happening::{Scene, Told};
use super::narrator::Narrator;
use crate::story::now_us;

/// How long a line waits for an earlier one of another process: longer than a line is under way between two of them,
/// shorter than a reader notices.
const HOLD: Duration = Duration::from_millis(60);

/// How many lines may be under way: more than a burst of all nodes and clients. Then their senders wait.
const LINES_MAX: usize = 4_096;

/// What the stage is told.
enum Cue {
    Tell(Box<Told>),
    /// Print everything that was told before, and say when that is done.
    Flush(oneshot::Sender<()>),
}

/// Tells things to the stage.
#[derive(Clone)]
pub(super) struct Teller {
    cues: mpsc::Sender<Cue>,
}

impl Teller {
    /// Tells what happens now.
    pub(super) async fn tell(&self, scene: Scene) {
        self.tell_at(now_us(), scene).await;
    }

    /// Tells what happened at `at_us`, by the clock of [`now_us`].
    pub(super) async fn tell_at(&self, at_us: u64, scene: Scene) {
        // The stage ends with the demo; then nobody reads any more.
        let _ = self.cues.send(Cue::Tell(Box::new(Told { at_us, scene }))).await;
    }

    /// Waits until everything that has happened by now is printed.
    pub(super) async fn flush(&self) {
        tokio::time::sleep(HOLD).await;
        let (done, when_done) = oneshot::channel();
        if self.cues.send(Cue::Flush(done)).await.is_ok() {
            let _ = when_done.await;
        }
    }
}

/// Opens the stage: what its teller is told is worded by `narrator` and printed to `output`, until all clones of the
/// teller are gone.
pub(super) fn open(narrator: Narrator, output: impl Write + Send + 'static) -> (Teller, JoinHandle<()>) {
    let (cues, received) = mpsc::channel(LINES_MAX);
    let stage = Stage { narrator, output, waiting: BTreeMap::new(), count: 0 };
    (Teller { cues }, tokio::spawn(stage.run(received)))
}

struct Stage<W> {
    narrator: Narrator,
    output: W,
    /// By the time they happened at, and by the order in which they came for equal times.
    waiting: BTreeMap<(u64, u64), (Instant, Box<Told>)>,
    count: u64,
}

impl<W: Write> Stage<W> {
    async fn run(mut self, mut cues: mpsc::Receiver<Cue>) {
        loop {
            let due = self.waiting.first_key_value().map(|(_, (arrived, _))| *arrived + HOLD);
            tokio::select! {
                cue = cues.recv() => match cue {
                    Some(Cue::Tell(told)) => {
                        self.count += 1;
                        self.waiting.insert((told.at_us, self.count), (Instant::now(), told));
                    }
                    Some(Cue::Flush(done)) => {
                        self.print(None);
                        let _ = done.send(());
                    }
                    None => break,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.print(Some(Instant::now())),
            }
        }
        self.print(None);
    }

    /// Prints what has waited long enough at `now`; without a time, everything.
    fn print(&mut self, now: Option<Instant>) {
        while let Some(first) = self.waiting.first_entry() {
            if now.is_some_and(|now| first.get().0 + HOLD > now) {
                break;
            }
            let (_, told) = first.remove();
            for line in self.narrator.tell(&told) {
                // A reader that has gone away does not change what the demo does.
                let _ = writeln!(self.output, "{line}");
            }
        }
        let _ = self.output.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::demo::happening::DemoScene;
    use crate::story::{Happening, StoryLine};

    #[derive(Clone, Default)]
    struct Printed(Arc<Mutex<Vec<u8>>>);

    impl Write for Printed {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no writer panics").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn follows(node: &str, term: u64) -> Scene {
        let happening = Happening::BecameFollower { term, leader: None };
        Scene::Node(StoryLine { node: node.to_owned(), at_us: 0, happening })
    }

    #[tokio::test]
    async fn lines_are_printed_in_the_order_in_which_things_happened() {
        let printed = Printed::default();
        let (teller, stage) = open(Narrator::new(0, vec!["n1".to_owned()], false), printed.clone());
        teller.tell_at(3_000, follows("n1", 3)).await;
        teller.tell_at(1_000, follows("n1", 1)).await;
        teller.tell_at(2_000, follows("n1", 2)).await;
        teller.tell_at(2_000, Scene::Demo(DemoScene::ClientsDone)).await;
        teller.flush().await;
        let text = String::from_utf8(printed.0.lock().expect("no writer panics").clone()).expect("it is text");
        let times: Vec<&str> = text.lines().map(|line| &line[..9]).collect();
        assert_eq!(times, ["   0.001 ", "   0.002 ", "   0.002 ", "   0.003 "]);
        assert!(text.lines().nth(2).is_some_and(|line| line.contains("all clients")), "{text}");
        teller.tell_at(4_000, follows("n1", 4)).await;
        drop(teller);
        stage.await.expect("the stage ends when nobody tells any more");
        let text = String::from_utf8(printed.0.lock().expect("no writer panics").clone()).expect("it is text");
        assert_eq!(text.lines().count(), 5, "what was told last is printed too");
    }
}
