//! The engines' side messages as Protobuf and back.
//!
//! What comes from a peer is checked here as far as it can be without knowing any snapshot: a piece lies within the
//! file that it names and is not longer than a piece may be. Whether it was asked for is for the engine to say.

use engine::side::{SNAPSHOT_CHUNK_BYTES, SideBody, SideMessage};
use proto::raft::v1 as wire;
use raft::{Index, NodeId};

use super::convert::Malformed;
use super::link::Lane;

/// A side message in the form of the stream that carries it.
#[derive(Clone, PartialEq, Debug)]
pub enum SideFrame {
    /// A question for a piece of a snapshot, or the hash of a state.
    Request(wire::SideRequest),
    /// The answer to a question.
    Response(wire::SideResponse),
}

impl SideFrame {
    /// Which stream carries the frame.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Self::Request(_) => Lane::SideRequests,
            Self::Response(_) => Lane::SideResponses,
        }
    }
}

/// A side message as a frame.
#[must_use]
pub fn to_side_frame(body: SideBody) -> SideFrame {
    use wire::side_request::Body as Request;
    use wire::side_response::Body as Response;
    let request = |body| SideFrame::Request(wire::SideRequest { body: Some(body) });
    let response = |body| SideFrame::Response(wire::SideResponse { body: Some(body) });
    match body {
        SideBody::FetchSnapshot { index, offset } => {
            request(Request::FetchSnapshot(wire::FetchSnapshot { index: index.map(Index::get), offset }))
        }
        SideBody::StateHash { index, hash } => request(Request::StateHash(wire::StateHash {
            index: index.get(),
            hash: bytes::Bytes::copy_from_slice(&hash.to_be_bytes()),
        })),
        SideBody::SnapshotChunk { index, total_bytes, offset, bytes } => {
            let index = index.get();
            response(Response::SnapshotChunk(wire::SnapshotChunk { index, total_bytes, offset, data: bytes }))
        }
        SideBody::NoSnapshot => response(Response::NoSnapshot(wire::NoSnapshot {})),
    }
}

/// A question for a piece of a snapshot, or the hash of a state.
///
/// # Errors
///
/// Fails if it is neither, or if it cannot be meant.
pub fn side_request(from: NodeId, to: NodeId, request: wire::SideRequest) -> Result<SideMessage, Malformed> {
    use wire::side_request::Body as Request;
    let body = match request.body.ok_or(Malformed::PartMissing)? {
        Request::FetchSnapshot(wire::FetchSnapshot { index, offset }) => {
            let index = index.map(covered).transpose()?;
            // The end of the piece has to be a number too.
            piece_end(offset, SNAPSHOT_CHUNK_BYTES)?;
            SideBody::FetchSnapshot { index, offset }
        }
        Request::StateHash(wire::StateHash { index, hash }) => {
            let hash = <[u8; 16]>::try_from(&*hash).map_err(|_| Malformed::OutOfBounds)?;
            SideBody::StateHash { index: covered(index)?, hash: u128::from_be_bytes(hash) }
        }
    };
    Ok(SideMessage { from, to, body })
}

/// A piece of a snapshot, or that there is none.
///
/// # Errors
///
/// Fails if it is neither, and for a piece that is empty, too long, or not within the file.
pub fn side_response(from: NodeId, to: NodeId, response: wire::SideResponse) -> Result<SideMessage, Malformed> {
    use wire::side_response::Body as Response;
    let body = match response.body.ok_or(Malformed::PartMissing)? {
        Response::SnapshotChunk(wire::SnapshotChunk { index, total_bytes, offset, data }) => {
            // An empty piece would be asked for again for ever.
            let of_a_size = (1..=SNAPSHOT_CHUNK_BYTES).contains(&data.len());
            if !of_a_size || piece_end(offset, data.len())? > total_bytes {
                return Err(Malformed::OutOfBounds);
            }
            SideBody::SnapshotChunk { index: covered(index)?, total_bytes, offset, bytes: data }
        }
        Response::NoSnapshot(wire::NoSnapshot {}) => SideBody::NoSnapshot,
    };
    Ok(SideMessage { from, to, body })
}

/// An index up to which there is something.
fn covered(index: u64) -> Result<Index, Malformed> {
    if index == 0 { Err(Malformed::OutOfBounds) } else { Ok(Index::new(index)) }
}

fn piece_end(offset: u64, bytes: usize) -> Result<u64, Malformed> {
    let bytes = u64::try_from(bytes).map_err(|_| Malformed::OutOfBounds)?;
    offset.checked_add(bytes).ok_or(Malformed::OutOfBounds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn nodes() -> (NodeId, NodeId) {
        let node = |id| NodeId::new(id).expect("not zero");
        (node(1), node(2))
    }

    fn there_and_back(body: SideBody) -> (Lane, Result<SideMessage, Malformed>) {
        let (from, to) = nodes();
        let frame = to_side_frame(body);
        let lane = frame.lane();
        let message = match frame {
            SideFrame::Request(request) => side_request(from, to, request),
            SideFrame::Response(response) => side_response(from, to, response),
        };
        (lane, message)
    }

    fn chunk(total_bytes: u64, offset: u64, length: usize) -> SideBody {
        let bytes = Bytes::from(vec![7; length]);
        SideBody::SnapshotChunk { index: Index::new(5), total_bytes, offset, bytes }
    }

    #[test]
    fn every_side_message_survives_the_wire() {
        let (from, to) = nodes();
        let index = Index::new(5);
        for (body, lane) in [
            (SideBody::FetchSnapshot { index: None, offset: 0 }, Lane::SideRequests),
            (SideBody::FetchSnapshot { index: Some(index), offset: 1 << 40 }, Lane::SideRequests),
            (SideBody::StateHash { index, hash: 1 << 100 | 9 }, Lane::SideRequests),
            (chunk(3, 0, 3), Lane::SideResponses),
            (chunk(SNAPSHOT_CHUNK_BYTES as u64 + 9, 9, SNAPSHOT_CHUNK_BYTES), Lane::SideResponses),
            (SideBody::NoSnapshot, Lane::SideResponses),
        ] {
            let expected = SideMessage { from, to, body: body.clone() };
            assert_eq!(there_and_back(body), (lane, Ok(expected)));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_malformed() {
        let zero = Index::ZERO;
        for body in [
            SideBody::FetchSnapshot { index: Some(zero), offset: 0 },
            SideBody::FetchSnapshot { index: None, offset: u64::MAX },
            SideBody::StateHash { index: zero, hash: 1 },
            SideBody::SnapshotChunk { index: zero, total_bytes: 1, offset: 0, bytes: Bytes::from_static(b"a") },
            chunk(3, 3, 0),
            chunk(3, 0, 4),
            chunk(3, 1, 3),
            chunk(u64::MAX, u64::MAX, 1),
            chunk(1 << 40, 0, SNAPSHOT_CHUNK_BYTES + 1),
        ] {
            assert_eq!(there_and_back(body.clone()).1, Err(Malformed::OutOfBounds), "{body:?}");
        }
    }

    #[test]
    fn a_side_message_without_its_part_is_malformed() {
        let (from, to) = nodes();
        assert_eq!(side_request(from, to, wire::SideRequest { body: None }), Err(Malformed::PartMissing));
        assert_eq!(side_response(from, to, wire::SideResponse { body: None }), Err(Malformed::PartMissing));
        for length in [0, 15, 17] {
            let hash = wire::StateHash { index: 1, hash: Bytes::from(vec![0; length]) };
            let request = wire::SideRequest { body: Some(wire::side_request::Body::StateHash(hash)) };
            assert_eq!(side_request(from, to, request), Err(Malformed::OutOfBounds), "{length} bytes");
        }
    }
}
