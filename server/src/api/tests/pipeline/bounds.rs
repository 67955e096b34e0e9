//! What a stream may make the node hold, and how much of the others' it may take.

use proto::kv::v1::PipelinedRequest;

use super::{Stream, VALUE, get, put, succeed, take, taken};
use crate::api::limits::{FRAME_ANSWERS_MAX, FRAME_BYTES_MAX, STREAM_REQUESTS_MAX, STREAM_UNITS_MAX, in_flight_units};
use crate::api::tests::fake::{Harness, led_by};
use crate::api::tests::services::serve;
use crate::node::BATCH_OPERATIONS_MAX;

/// Sends requests with the tags 0 to `count`, a thousand a frame, for as long as the node reads.
fn send_all(stream: &Stream, count: u64, request: fn(u64, &str) -> PipelinedRequest) {
    let requests = stream.requests.clone();
    tokio::spawn(async move {
        let tags: Vec<u64> = (0..count).collect();
        for tags in tags.chunks(1000) {
            let frame = tags.iter().map(|tag| request(*tag, "a")).collect();
            // The test may end before the node has read everything.
            let _ = requests.send(proto::kv::v1::PipelineRequest { requests: frame }).await;
        }
    });
}

/// Has a request of another stream answered, some time in which the node would read more if it did.
async fn meanwhile(harness: &Harness, other: &mut Stream) {
    for _ in 0..20 {
        other.send([put(u64::MAX, "other")]).await;
        let (pending, mut operations) = taken(harness).await;
        let tags: Vec<u64> = operations.iter().map(|operation| operation.mark.tag).collect();
        assert_eq!(tags, [u64::MAX], "these are too many");
        let operation = (pending, operations.remove(0));
        succeed(operation);
        other.answers(1).await;
    }
}

#[tokio::test]
async fn a_stream_with_a_full_window_is_not_read_further() {
    let harness = Harness::new(led_by(Some("n1")));
    let (address, _) = serve(&harness).await;
    let (mut stream, mut other) = (Stream::to(address).await, Stream::to(address).await);
    send_all(&stream, 10_000, put);
    let mut operations = Vec::new();
    while operations.len() < STREAM_REQUESTS_MAX {
        let (pending, batch) = taken(&harness).await;
        assert!(batch.len() <= BATCH_OPERATIONS_MAX, "the next stream's turn comes soon");
        operations.extend(batch.into_iter().map(|operation| (pending.clone(), operation)));
    }
    assert_eq!(operations.len(), STREAM_REQUESTS_MAX);
    meanwhile(&harness, &mut other).await;

    // Each answer makes room for one request; in the end all are answered.
    let mut answered = 0;
    while answered < 10_000 {
        answered += operations.len();
        let count = operations.len();
        operations.drain(..).for_each(succeed);
        let mut left = count;
        while left > 0 {
            let frame = stream.frame().await.expect("no error").expect("more answers");
            assert!(frame.responses.len() <= FRAME_ANSWERS_MAX);
            left -= frame.responses.len();
        }
        if answered < 10_000 {
            operations = take(&harness, 1).await;
        }
    }
    assert!(harness.api.in_flight.is_empty());
}

#[tokio::test]
async fn a_client_that_reads_no_answers_is_read_no_further_and_holds_no_room() {
    let harness = Harness::new(led_by(Some("n1")));
    let (address, _) = serve(&harness).await;
    let (stream, mut other) = (Stream::to(address).await, Stream::to(address).await);
    send_all(&stream, 10_000, get);
    let mut count = 0;
    while count < STREAM_REQUESTS_MAX {
        let operations = take(&harness, 1).await;
        count += operations.len();
        operations.into_iter().for_each(succeed);
    }
    // A few frames are on their way out: in the channel, in the library, in HTTP/2's window.
    let on_the_way = 8 * (FRAME_BYTES_MAX / VALUE.len() + 1);
    loop {
        let next = harness.node.0.batches.lock().expect("no panic").pop_front();
        if next.is_none() && harness.api.in_flight.is_empty() {
            break;
        }
        let Some(batch) = next else {
            tokio::task::yield_now().await;
            continue;
        };
        let (pending, operations) = batch.take();
        for (_, operation) in operations {
            count += 1;
            succeed((pending.clone(), operation));
        }
    }
    assert!(count <= STREAM_REQUESTS_MAX + on_the_way, "{count} were taken");
    meanwhile(&harness, &mut other).await;
}

#[tokio::test]
async fn a_stream_of_large_values_leaves_the_others_room() {
    let harness = Harness::new(led_by(Some("n1")));
    let (address, _) = serve(&harness).await;
    let (mut stream, mut other) = (Stream::to(address).await, Stream::to(address).await);
    let large = |tag| {
        let mut request = put(tag, "a");
        if let Some(proto::kv::v1::pipelined_request::Request::Put(put)) = &mut request.request {
            put.value = vec![0; 1 << 20].into();
        }
        request
    };
    let units = in_flight_units(1 << 20);
    let (fit, requests) = (STREAM_UNITS_MAX.div_ceil(units), stream.requests.clone());
    tokio::spawn(async move {
        for tag in 0..2 * fit as u64 {
            let _ = requests.send(proto::kv::v1::PipelineRequest { requests: vec![large(tag)] }).await;
        }
    });
    let operations = take(&harness, fit).await;
    assert_eq!(operations.len(), fit);
    meanwhile(&harness, &mut other).await;
    operations.into_iter().for_each(succeed);
    stream.answers(fit).await;
    take(&harness, fit).await.into_iter().for_each(succeed);
    stream.answers(fit).await;
}

#[tokio::test]
async fn frames_of_answers_are_bounded_by_count_and_by_bytes() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    for (request, count_max) in
        [(put as fn(u64, &str) -> PipelinedRequest, FRAME_ANSWERS_MAX), (get, FRAME_BYTES_MAX / VALUE.len())]
    {
        let count = 3 * FRAME_ANSWERS_MAX;
        send_all(&stream, count as u64, request);
        take(&harness, count).await.into_iter().for_each(succeed);
        let (mut left, mut largest) = (count, 0);
        while left > 0 {
            let frame = stream.frame().await.expect("no error").expect("more answers");
            assert!(frame.responses.len() <= count_max, "{} answers", frame.responses.len());
            largest = largest.max(frame.responses.len());
            left -= frame.responses.len();
        }
        assert!(largest > 1, "answers that are there together leave together");
    }
}
