//! The clients of a demo: each sends its operations one after the other, through Quorate's own client library.

use std::time::{Duration, Instant};

use client_cli::{Client, Error, Options, PutOptions};
use tokio::sync::mpsc;

use super::happening::{Answer, ClientScene, Scene};
use super::operations::{Action, Operation};
use super::stage::Teller;

/// How long one node is given for an operation. It covers an election, which the node waits for.
const NODE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an operation may take over all nodes that are asked.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a connection may take to open; it does not leave the machine.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// The longest pause of a client before an operation, so that a reader can tell one from the next.
const PAUSE_MAX: Duration = Duration::from_millis(400);

/// How long all pauses of a client may take together: with many operations, nobody reads each one.
const PAUSES_MAX: Duration = Duration::from_secs(10);

/// A client, and what it needs to know.
pub(super) struct DemoClient {
    /// Its number, from 1.
    pub(super) number: usize,
    /// What it sends.
    pub(super) operations: Vec<Operation>,
    /// The names and addresses of all nodes.
    pub(super) nodes: Vec<(String, String)>,
    /// Where it tells what happens.
    pub(super) teller: Teller,
    /// Where the answers go.
    pub(super) answers: mpsc::Sender<Answer>,
}

impl DemoClient {
    /// Sends all operations.
    pub(super) async fn run(self) {
        let count = u32::try_from(self.operations.len()).unwrap_or(u32::MAX).max(1);
        let pause_max = PAUSE_MAX.min(PAUSES_MAX / count);
        for operation in &self.operations {
            tokio::time::sleep(pause_max * u32::from(operation.pause) / 256).await;
            let answer = self.perform(operation).await;
            let what = ClientScene::Answered { action: operation.action.clone(), answer: answer.clone() };
            self.tell(what).await;
            if self.answers.send(answer).await.is_err() {
                break;
            }
        }
    }

    /// Asks the operation's node, and the others in turn for as long as it is certain that nothing was applied.
    async fn perform(&self, operation: &Operation) -> Answer {
        let until = Instant::now() + OPERATION_TIMEOUT;
        let mut at = operation.node;
        let (name, _) = &self.nodes[at];
        self.tell(ClientScene::Asks { action: operation.action.clone(), node: name.clone() }).await;
        loop {
            let (name, address) = &self.nodes[at];
            let cause = match ask(address, &operation.action).await {
                Ok(answer) => return answer,
                Err(cause) if Instant::now() >= until => return Answer::Failed { message: cause },
                Err(cause) => cause,
            };
            at = (at + 1) % self.nodes.len();
            let (next, _) = &self.nodes[at];
            self.tell(ClientScene::AsksElsewhere { from: name.clone(), to: next.clone(), cause }).await;
        }
    }

    async fn tell(&self, what: ClientScene) {
        self.teller.tell(Scene::Client { client: self.number, what }).await;
    }
}

/// Asks one node. An error says why that node gave no result and nothing was applied.
async fn ask(address: &str, action: &Action) -> Result<Answer, String> {
    // A client of its own for each operation, because one that has learnt who leads would go there directly, and the
    // demo is to show that any node answers.
    let options = Options::new([address]).map_err(|error| error.to_string())?;
    let client = Client::connect(options.timeout(NODE_TIMEOUT).connect_timeout(CONNECT_TIMEOUT));
    let result = match action {
        Action::Put { key, value } => client
            .put(*key, value.clone(), PutOptions::default())
            .await
            .map(|written| Answer::Written { revision: written.revision }),
        Action::Get { key } => client.get(*key).await.map(|found| Answer::Value {
            value: String::from_utf8_lossy(&found.key_value.value).into_owned(),
            served_by: found.served_by,
        }),
        Action::Delete { key } => {
            client.delete(*key, None).await.map(|deleted| Answer::Removed { revision: deleted.revision })
        }
    };
    result.or_else(|error| {
        let message = error.to_string();
        match error {
            Error::KeyExists { .. } => Ok(Answer::KeyExists { message }),
            Error::KeyNotFound { .. } => Ok(Answer::KeyNotFound { message }),
            Error::OutcomeUnknown { .. } | Error::SessionExpired(_) => Ok(Answer::Unknown { message }),
            Error::NotApplied(_) | Error::DeadlineExceeded(_) => Err(message),
            other => Ok(Answer::Failed { message: other.to_string() }),
        }
    })
}
