//! The ledger step by step, without a network.

use super::*;
use bytes::Bytes;
use proto::kv::v1::{GetRequest, GetResponse, PutRequest};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
    time::Duration,
};

#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Counter>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Counter {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn get() -> Asked {
    let deadline = Instant::now() + Duration::from_secs(60);
    Asked { request: Request::Get(GetRequest::default()), traceparent: String::new(), deadline }
}

fn put(value_bytes: usize) -> Asked {
    let value = Bytes::from(vec![0; value_bytes]);
    Asked { request: Request::Put(PutRequest { value, ..Default::default() }), ..get() }
}

fn open() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.opened();
    ledger
}

fn ask(ledger: &mut Ledger, asked: Asked) -> Tag {
    ledger.ask(asked).expect("the stream has not ended").0
}

fn frame(ledger: &mut Ledger) -> Vec<u64> {
    ledger.frame(Instant::now()).into_iter().map(|request| request.tag).collect()
}

fn answer(tag: u64) -> PipelinedResponse {
    PipelinedResponse { tag, response: Some(Response::Get(GetResponse { revision: tag, ..Default::default() })) }
}

fn fetch(ledger: &mut Ledger, tag: Tag) -> Poll<Done> {
    ledger.fetch(tag, &mut Context::from_waker(Waker::noop()))
}

fn revision(done: Poll<Done>) -> Option<u64> {
    match done {
        Poll::Ready(Done::Answered(Some(Response::Get(get)), _)) => Some(get.revision),
        _ => None,
    }
}

fn lost() -> End {
    End::Broken(Status::unavailable("broken"))
}

#[test]
fn nothing_leaves_before_the_stream_is_open_and_all_that_is_queued_leaves_at_once() {
    let mut ledger = Ledger::default();
    let tags: Vec<u64> = (0..10).map(|_| ask(&mut ledger, get()).0).collect();
    assert_eq!(frame(&mut ledger).len(), 0);
    let (counter, sender) = counted();
    ledger.rest(&sender);
    ledger.opened().expect("the sender rests").wake();
    assert_eq!(counter.count(), 1);
    assert_eq!(frame(&mut ledger), tags);
    assert_eq!(frame(&mut ledger).len(), 0);
}

fn counted() -> (Arc<Counter>, Waker) {
    let counter = Arc::new(Counter::default());
    (Arc::clone(&counter), Waker::from(counter))
}

#[test]
fn answers_in_any_order_wake_who_waits_for_them() {
    let mut ledger = open();
    let tags: Vec<Tag> = (0..3).map(|_| ask(&mut ledger, get())).collect();
    frame(&mut ledger);
    let (counter, waker) = counted();
    assert!(ledger.fetch(tags[0], &mut Context::from_waker(&waker)).is_pending());
    let (woken, freed) = ledger.answer(answer(tags[2].0), None);
    assert!(woken.is_none() && !freed, "nobody has asked for it yet");
    ledger.answer(answer(tags[0].0), None).0.expect("it is waited for").wake();
    assert_eq!(counter.count(), 1);
    assert_eq!(revision(fetch(&mut ledger, tags[0])), Some(tags[0].0));
    assert_eq!(revision(fetch(&mut ledger, tags[2])), Some(tags[2].0));
    assert!(fetch(&mut ledger, tags[1]).is_pending());
}

#[test]
fn a_slot_is_used_again_and_its_tag_is_not() {
    let mut ledger = open();
    let first = ask(&mut ledger, get());
    frame(&mut ledger);
    ledger.answer(answer(first.0), None);
    assert!(fetch(&mut ledger, first).is_ready());
    let second = ask(&mut ledger, get());
    assert_eq!((second.index(), ledger.slots.len()), (first.index(), 1));
    assert_ne!(second, first);
    frame(&mut ledger);
    // The node answers twice, and what nobody asked.
    for tag in [first.0, second.0 + 1, u64::MAX, 0] {
        assert!(matches!(ledger.answer(answer(tag), None), (None, false)), "{tag}");
    }
    assert!(fetch(&mut ledger, second).is_pending());
    assert_eq!(ledger.under_way, 1);
}

#[test]
fn a_frame_has_bounds() {
    let mut ledger = open();
    for _ in 0..=FRAME_REQUESTS_MAX {
        ask(&mut ledger, get());
    }
    assert_eq!([frame(&mut ledger).len(), frame(&mut ledger).len()], [FRAME_REQUESTS_MAX, 1]);
    for value_bytes in [FRAME_BYTES_MAX / 2, FRAME_BYTES_MAX / 2, 1, FRAME_BYTES_MAX * 2, 0] {
        ask(&mut ledger, put(value_bytes));
    }
    let lengths: Vec<usize> = (0..5).map(|_| frame(&mut ledger).len()).collect();
    assert_eq!(lengths, [2, 1, 1, 1, 0], "one that is larger than a frame has one for itself");
}

#[test]
fn so_many_are_under_way_and_no_more() {
    let mut ledger = open();
    let tags: Vec<Tag> = (0..UNDER_WAY_MAX + 10).map(|_| ask(&mut ledger, get())).collect();
    let mut sent = 0;
    while let count @ 1.. = frame(&mut ledger).len() {
        sent += count;
    }
    assert_eq!(sent, UNDER_WAY_MAX);
    let (counter, sender) = counted();
    ledger.rest(&sender);
    assert!(ledger.answered().is_none());
    for tag in &tags[..3] {
        ledger.answer(answer(tag.0), None);
    }
    ledger.answered().expect("there is room").wake();
    assert_eq!((counter.count(), frame(&mut ledger).len()), (1, 3));
}

#[test]
fn so_many_bytes_are_under_way_and_no_more() {
    let mut ledger = open();
    let value_bytes = UNDER_WAY_BYTES_MAX / 16;
    let tags: Vec<Tag> = (0..20).map(|_| ask(&mut ledger, put(value_bytes))).collect();
    let mut sent = 0;
    while let count @ 1.. = frame(&mut ledger).len() {
        sent += count;
    }
    assert_eq!(sent, 16);
    ledger.answer(answer(tags[0].0), None);
    assert_eq!([frame(&mut ledger).len(), frame(&mut ledger).len()], [1, 0]);
    // With nothing under way even the largest goes.
    let mut ledger = open();
    ask(&mut ledger, put(UNDER_WAY_BYTES_MAX + 1));
    assert_eq!(frame(&mut ledger).len(), 1);
}

#[test]
fn what_is_taken_back_never_leaves() {
    let mut ledger = open();
    let tags: Vec<Tag> = (0..3).map(|_| ask(&mut ledger, get())).collect();
    assert!(matches!(ledger.abandon(tags[1]), Abandoned::TakenBack));
    // Its slot is another's at once; the old place in the queue is nobody's.
    let next = ask(&mut ledger, get());
    assert_eq!(frame(&mut ledger), [tags[0].0, tags[2].0, next.0]);
}

#[test]
fn what_comes_too_late_is_not_sent() {
    let mut ledger = open();
    let now = Instant::now();
    let late = ask(&mut ledger, Asked { deadline: now, ..get() });
    let hurried = Asked { deadline: now + Duration::from_micros(1500), ..get() };
    let in_time = ask(&mut ledger, hurried);
    let frame = ledger.frame(now);
    assert_eq!(frame.iter().map(|request| (request.tag, request.timeout_ms)).collect::<Vec<_>>(), [(in_time.0, 2)]);
    assert!(matches!(ledger.abandon(late), Abandoned::TakenBack), "it has not left");
}

#[test]
fn an_abandoned_request_keeps_its_tag_until_it_is_answered() {
    let mut ledger = open();
    let tag = ask(&mut ledger, get());
    frame(&mut ledger);
    assert!(matches!(ledger.abandon(tag), Abandoned::UnderWay));
    let other = ask(&mut ledger, get());
    assert_ne!(other.index(), tag.index());
    assert!(matches!(ledger.answer(answer(tag.0), None), (None, true)), "its slot is free now");
    assert_eq!(ask(&mut ledger, get()).index(), tag.index());
    let done = ask(&mut ledger, get());
    frame(&mut ledger);
    ledger.answer(answer(done.0), None);
    assert!(matches!(ledger.abandon(done), Abandoned::Done(Done::Answered(..))), "the answer had just come");
    assert!(matches!(ledger.abandon(done), Abandoned::Fetched));
}

#[test]
fn a_stream_that_ends_tells_what_may_have_left_from_what_has_not() {
    let mut ledger = open();
    let sent = ask(&mut ledger, get());
    let answered = ask(&mut ledger, get());
    frame(&mut ledger);
    let queued = ask(&mut ledger, get());
    ledger.answer(answer(answered.0), None);
    let (counter, waker) = counted();
    for tag in [sent, queued] {
        assert!(ledger.fetch(tag, &mut Context::from_waker(&waker)).is_pending());
    }
    ledger.finish(lost()).into_iter().for_each(Waker::wake);
    assert_eq!(counter.count(), 2);
    assert!(matches!(fetch(&mut ledger, sent), Poll::Ready(Done::Lost { left: true, .. })));
    assert!(matches!(fetch(&mut ledger, queued), Poll::Ready(Done::Lost { left: false, .. })));
    assert_eq!(revision(fetch(&mut ledger, answered)), Some(answered.0), "it came before the end");
    assert!(matches!(ledger.ask(get()), Err(End::Broken(_))));
    assert_eq!(frame(&mut ledger).len(), 0);
}

#[test]
fn a_node_without_streams_leaves_what_is_queued_as_good_as_before() {
    let mut ledger = Ledger::default();
    let queued = ask(&mut ledger, get());
    ledger.finish(End::Unsupported);
    assert!(matches!(fetch(&mut ledger, queued), Poll::Ready(Done::Unsupported)));
    assert!(matches!(ledger.ask(get()), Err(End::Unsupported)));
}

#[test]
fn what_is_taken_back_again_and_again_does_not_pile_up() {
    let mut ledger = Ledger::default();
    let kept = ask(&mut ledger, get());
    for _ in 0..10 * SLOTS_MAX {
        let tag = ask(&mut ledger, get());
        assert!(matches!(ledger.abandon(tag), Abandoned::TakenBack));
    }
    assert!(ledger.queue.len() <= 2 * SLOTS_MAX && ledger.slots.len() == 2, "{}", ledger.queue.len());
    ledger.opened();
    assert_eq!(frame(&mut ledger), [kept.0]);
}
