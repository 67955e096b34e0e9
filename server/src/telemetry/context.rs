//! The W3C trace context: what says which trace a request belongs to, as it travels between processes.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use tonic::metadata::{MetadataMap, MetadataValue};

/// The metadata entry that names the trace and the caller's span.
const TRACEPARENT: &str = "traceparent";

/// The metadata entry in which tracing systems keep what is theirs.
const TRACESTATE: &str = "tracestate";

/// A longer `tracestate` is dropped. The specification asks to carry at least this many bytes; a bound keeps a caller
/// from making each of our hops carry what it likes.
const TRACESTATE_BYTES_MAX: usize = 512;

/// The length of a `traceparent` of version 00, in bytes.
const TRACEPARENT_BYTES: usize = 55;

/// The W3C trace context of a span: what `traceparent` and `tracestate` headers carry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceContext {
    pub(super) span: Parent,
    tracestate: Option<Box<str>>,
}

impl TraceContext {
    /// Reads the value of a `traceparent` header; none if it is malformed.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        Some(Self { span: Parent::parse(traceparent)?, tracestate: None })
    }

    /// The value of a `traceparent` header.
    #[must_use]
    pub fn traceparent(&self) -> String {
        self.span.to_header()
    }

    /// The value of a `tracestate` header, if there is one.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.tracestate.as_deref()
    }

    /// Whether the span is recorded by whoever made it.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.span.sampled
    }

    /// The context of another span in the same trace.
    pub(super) fn with_span(&self, span_id: SpanId) -> Self {
        Self { span: Parent { span_id, sampled: true, ..self.span }, tracestate: self.tracestate.clone() }
    }

    /// The context of the first span of a trace.
    pub(super) fn root(trace_id: TraceId, span_id: SpanId) -> Self {
        Self { span: Parent { trace_id, span_id, sampled: true }, tracestate: None }
    }

    /// The context as OpenTelemetry has it.
    pub(super) fn to_span_context(&self, is_remote: bool) -> SpanContext {
        let state = self.tracestate.as_deref().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
        let flags = TraceFlags::default().with_sampled(self.span.sampled);
        SpanContext::new(self.span.trace_id, self.span.span_id, flags, is_remote, state)
    }
}

/// The trace context in the metadata of a request, if it is well-formed and its caller sampled it.
#[must_use]
pub fn extract(metadata: &MetadataMap) -> Option<TraceContext> {
    parent(metadata).filter(TraceContext::is_sampled)
}

/// Writes a trace context into the metadata of an outgoing request.
pub fn inject(trace: &TraceContext, metadata: &mut MetadataMap) {
    if let Ok(value) = MetadataValue::try_from(trace.traceparent()) {
        metadata.insert(TRACEPARENT, value);
    }
    if let Some(Ok(value)) = trace.tracestate().map(MetadataValue::try_from) {
        metadata.insert(TRACESTATE, value);
    }
}

/// The caller's span in the metadata of a request, sampled or not.
pub(super) fn parent(metadata: &MetadataMap) -> Option<TraceContext> {
    let header = metadata.get(TRACEPARENT)?.to_str().ok()?;
    let span = Parent::parse(header)?;
    // What is not sampled has no use for it.
    let tracestate = if span.sampled { tracestate(metadata) } else { None };
    Some(TraceContext { span, tracestate: tracestate.map(Into::into) })
}

/// The `tracestate` in the metadata of a request. Several entries count as one list.
fn tracestate(metadata: &MetadataMap) -> Option<String> {
    let mut list = String::new();
    for value in metadata.get_all(TRACESTATE) {
        let value = value.to_str().ok()?;
        if list.len() + 1 + value.len() > TRACESTATE_BYTES_MAX {
            return None;
        }
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(value);
    }
    (!list.is_empty()).then_some(list)
}

/// What a `traceparent` header says of a span.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Parent {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
    pub(super) sampled: bool,
}

impl Parent {
    /// Reads the value of a `traceparent` header as the specification demands: lower case, no zero id, no version ff;
    /// a later version may have more behind the fields of version 00.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let bytes = header.as_bytes();
        let (fields, rest) = bytes.split_at_checked(TRACEPARENT_BYTES)?;
        let version = hexadecimal(&fields[..2])?;
        let complete = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|&byte| byte == b'-'),
        };
        let separated = fields[2] == b'-' && fields[35] == b'-' && fields[52] == b'-';
        if !complete || !separated {
            return None;
        }
        let trace_id = TraceId::from(hexadecimal(&fields[3..35])?);
        let span_id = SpanId::from(u64::try_from(hexadecimal(&fields[36..52])?).ok()?);
        let flags = hexadecimal(&fields[53..])?;
        if trace_id == TraceId::INVALID || span_id == SpanId::INVALID {
            return None;
        }
        Some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }

    /// The value of a `traceparent` header, of version 00.
    pub(super) fn to_header(self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// The number that lower-case hexadecimal digits spell; at most 32 of them.
fn hexadecimal(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_header_is_read_and_written_back() {
        let parent = Parent::parse(HEADER).expect("well-formed");
        assert!(parent.sampled);
        assert_eq!(parent.trace_id, TraceId::from(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c));
        assert_eq!(parent.span_id, SpanId::from(0xb7ad_6b71_6920_3331));
        assert_eq!(parent.to_header(), HEADER);
    }

    #[test]
    fn flags_other_than_sampled_are_ignored_and_not_passed_on() {
        let unsampled = Parent::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02").expect("well-formed");
        assert!(!unsampled.sampled);
        let sampled = Parent::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff").expect("well-formed");
        assert_eq!(sampled.to_header(), HEADER);
    }

    #[test]
    fn a_later_version_may_be_longer() {
        assert!(Parent::parse("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-ever").is_some());
        assert!(Parent::parse("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.what").is_none());
    }

    #[test]
    fn malformed_headers_are_refused() {
        for header in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
            "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
            "+0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333ä-1",
        ] {
            assert_eq!(Parent::parse(header), None, "{header}");
        }
    }

    #[test]
    fn only_a_sampled_context_is_extracted_and_it_comes_out_as_it_went_in() {
        let mut metadata = MetadataMap::new();
        assert_eq!(extract(&metadata), None);
        metadata.insert(TRACEPARENT, MetadataValue::from_static(HEADER));
        metadata.append(TRACESTATE, MetadataValue::from_static("a=1"));
        metadata.append(TRACESTATE, MetadataValue::from_static("b=2"));
        let trace = extract(&metadata).expect("sampled");
        assert_eq!((trace.traceparent().as_str(), trace.tracestate()), (HEADER, Some("a=1,b=2")));

        let mut outgoing = MetadataMap::new();
        inject(&trace, &mut outgoing);
        assert_eq!(extract(&outgoing), Some(trace));

        metadata
            .insert(TRACEPARENT, MetadataValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"));
        assert_eq!(extract(&metadata), None);
    }

    #[test]
    fn a_tracestate_beyond_the_bound_is_dropped() {
        let mut metadata = MetadataMap::new();
        metadata.insert(TRACEPARENT, MetadataValue::from_static(HEADER));
        let long = format!("a={}", "x".repeat(TRACESTATE_BYTES_MAX));
        metadata.insert(TRACESTATE, MetadataValue::try_from(long).expect("ASCII"));
        assert_eq!(extract(&metadata).expect("sampled").tracestate(), None);
    }

    #[test]
    fn a_context_that_a_peer_made_up_becomes_no_parent() {
        assert!(TraceContext::parse("nonsense").is_none());
        assert!(TraceContext::parse(HEADER).is_some());
    }
}
