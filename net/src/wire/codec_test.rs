//! What is encoded comes back; what is not whole or not meant is refused, never a panic.

use super::client::ClientRequest;
use super::cluster::ClusterRequest;
use super::error::Malformed;
use super::frame::{FLAG_MORE, begin_frame, check_frame, end_frame, end_frames};
use super::hello::{ClientHello, ServerHello, ServerIdentity, ServerLimits};
use super::limits;
use super::opcode::Opcode;
use super::reply::{Answer, Reply, ReplyHeader};
use super::request::Request;
use super::sample::Sample;
use super::watch::{WatchCanceled, decode_events, encode_events};
use engine::api::{RequestOp, TxnRequest};
use proptest::prelude::*;

fn encoded(request: &impl ClientRequest) -> Vec<u8> {
    let mut body = Vec::new();
    request.encode(&mut body);
    body
}

/// One answer of each kind, with its opcode and body, and what it should decode to.
fn answers(sample: &mut Sample) -> Vec<(Opcode, Vec<u8>, ReplyHeader, Answer)> {
    let range = sample.range_response();
    let put = sample.put_response();
    let delete = sample.delete_range_response();
    let txn = sample.txn_response(1);
    let lease = sample.lease();
    let status = sample.status();
    let members = sample.members();
    let ids = [sample.next() as i64, 0, -1];
    let revision = sample.next() as i64;
    let (id, ttl_s) = (7, -1);
    let pairs = [
        (Reply::Range(&range), range.revision, Answer::Range(range.clone())),
        (Reply::Put(&put), put.revision, Answer::Put(put.clone())),
        (Reply::DeleteRange(&delete), delete.revision, Answer::DeleteRange(delete.clone())),
        (Reply::Txn(&txn), txn.revision, Answer::Txn(txn.clone())),
        (Reply::Compact { revision }, revision, Answer::Compact),
        (Reply::LeaseGrant { revision, id, ttl_s }, revision, Answer::LeaseGrant { id, ttl_s }),
        (Reply::LeaseRevoke { revision }, revision, Answer::LeaseRevoke),
        (
            Reply::LeaseKeepAlive { revision, id, ttl_s },
            revision,
            Answer::LeaseKeepAlive { id, ttl_s },
        ),
        (
            Reply::LeaseTimeToLive { revision, lease: &lease },
            revision,
            Answer::LeaseTimeToLive(lease.clone()),
        ),
        (Reply::Leases { revision, ids: &ids }, revision, Answer::Leases(ids.to_vec())),
        (Reply::Status { revision, status: &status }, revision, Answer::Status(status.clone())),
        (Reply::MemberList { members: &members }, 0, Answer::MemberList(members.clone())),
        (
            Reply::MemberAdd { id: 7, members: &members },
            0,
            Answer::MemberAdd { id: 7, members: members.clone() },
        ),
        (Reply::MemberRemove { members: &members }, 0, Answer::MemberRemove(members.clone())),
        (Reply::MemberUpdate { members: &members }, 0, Answer::MemberUpdate(members.clone())),
        (Reply::MemberPromote { members: &members }, 0, Answer::MemberPromote(members.clone())),
        (Reply::MoveLeader, 0, Answer::MoveLeader),
    ];
    let encode = |(reply, revision, answer): (Reply<'_>, i64, Answer)| {
        let mut body = Vec::new();
        reply.encode(9, &mut body);
        (reply.opcode(), body, ReplyHeader { revision, raft_term: 9 }, answer)
    };
    pairs.into_iter().map(encode).collect()
}

proptest! {
    #[test]
    fn requests_come_back_as_they_were_sent(seed: u64) {
        let request = Sample(seed).request();
        let body = encoded(&request);
        prop_assert_eq!(Request::decode(request.opcode(), &body), Ok(request));
    }

    #[test]
    fn requests_about_the_cluster_come_back_as_they_were_sent(seed: u64, cut: u16) {
        let request = Sample(seed).cluster_request();
        let mut body = encoded(&request);
        let opcode = request.opcode();
        prop_assert_eq!(ClusterRequest::decode(opcode, &body), Some(Ok(request)));
        prop_assert!(Request::decode(opcode, &body).is_err());
        body.push(0);
        prop_assert!(ClusterRequest::decode(opcode, &body).unwrap().is_err());
        // What is cut off may be a whole URL; less than the fixed part is nothing.
        prop_assert!(ClusterRequest::decode(opcode, &body[..cut as usize % 8]).unwrap().is_err());
    }

    #[test]
    fn a_request_cut_short_or_grown_is_refused(seed: u64, cut: u16) {
        let request = Sample(seed).request();
        let mut body = encoded(&request);
        let opcode = request.opcode();
        if !body.is_empty() {
            let size = cut as usize % body.len();
            prop_assert!(Request::decode(opcode, &body[..size]).is_err());
        }
        body.push(0);
        prop_assert_eq!(Request::decode(opcode, &body), Err(Malformed::Trailing));
    }

    #[test]
    fn answers_come_back_as_they_were_sent(seed: u64) {
        for (opcode, body, header, answer) in answers(&mut Sample(seed)) {
            prop_assert_eq!(Answer::decode(opcode, &body), Ok((header, answer)));
        }
    }

    #[test]
    fn events_come_back_as_they_were_sent(seed: u64) {
        let events = Sample(seed).events();
        let header = ReplyHeader { revision: 5, raft_term: 2 };
        let mut body = Vec::new();
        encode_events(header, &events, &mut body);
        prop_assert_eq!(decode_events(&body), Ok((header, events)));
    }

    /// The checksums would refuse these bytes; here they reach the decoders all the same.
    #[test]
    fn mutated_bodies_never_panic(seed: u64, changes in prop::collection::vec((any::<u16>(), any::<u8>()), 1..6)) {
        let mut sample = Sample(seed);
        let mutate = |mut body: Vec<u8>| {
            for (at, value) in &changes {
                if !body.is_empty() {
                    let at = *at as usize % body.len();
                    body[at] = *value;
                }
            }
            body
        };
        let request = sample.request();
        let body = mutate(encoded(&request));
        let decoded = Request::decode(request.opcode(), &body);
        if let Ok(request) = decoded {
            // What is understood is exactly what was received: nothing is lost or ignored.
            prop_assert_eq!(encoded(&request).len(), body.len());
        }
        for opcode in Opcode::ALL {
            let _ = Request::decode(*opcode, &body);
            let _ = ClusterRequest::decode(*opcode, &body);
            let _ = Answer::decode(*opcode, &body);
        }
        for (opcode, body, _, _) in answers(&mut sample) {
            let _ = Answer::decode(opcode, &mutate(body));
        }
        let mut body = Vec::new();
        encode_events(ReplyHeader::default(), &sample.events(), &mut body);
        let body = mutate(body);
        let _ = decode_events(&body);
        let _ = WatchCanceled::decode(&body);
        let _ = ClientHello::decode(&body);
        let _ = ServerHello::decode(&body);
    }

    #[test]
    fn a_frame_with_a_changed_bit_is_refused(seed: u64, at: u16, bit in 0..8u8) {
        let mut frame = Vec::new();
        let start = begin_frame(&mut frame);
        let request = Sample(seed).request();
        request.encode(&mut frame);
        end_frame(&mut frame, start, request.opcode(), 3);
        let at = at as usize % frame.len();
        frame[at] ^= 1 << bit;
        let checked = check_frame(&frame, limits::FRAME_SIZE_BYTES_MAX);
        let expected = if at < 8 || (8..limits::FRAME_HEADER_SIZE_BYTES).contains(&at) {
            Malformed::HeaderChecksum
        } else {
            Malformed::BodyChecksum
        };
        prop_assert_eq!(checked, Err(expected));
    }

    #[test]
    fn chunks_hold_the_whole_body(size in 0..5000usize, chunk_size in 33..700usize) {
        let body: Vec<u8> = (0..size).map(|slot| slot as u8).collect();
        let mut frames = b"before".to_vec();
        let start = begin_frame(&mut frames);
        frames.extend_from_slice(&body);
        end_frames(&mut frames, start, Opcode::RangeReply, 8, chunk_size);

        let mut rest = &frames[6..];
        let mut collected = Vec::new();
        loop {
            let (frame, frame_size) = check_frame(rest, chunk_size).unwrap().unwrap();
            prop_assert_eq!((frame.opcode, frame.request_id), (Opcode::RangeReply, 8));
            collected.extend_from_slice(frame.body);
            rest = &rest[frame_size..];
            prop_assert_eq!(frame.more, !rest.is_empty());
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(collected, body);
    }
}

#[test]
fn a_header_is_judged_before_its_body_is_there() {
    let mut frame = Vec::new();
    let start = begin_frame(&mut frame);
    frame.resize(1000, 7);
    end_frame(&mut frame, start, Opcode::Put, 1);
    let header = &frame[..limits::FRAME_HEADER_SIZE_BYTES];
    assert_eq!(check_frame(header, 1000), Ok(None));
    assert_eq!(check_frame(&header[..31], 10), Ok(None));
    assert_eq!(check_frame(header, 999), Err(Malformed::FrameSize));
    assert!(check_frame(&frame, 1000).unwrap().is_some());
}

#[test]
fn header_fields_without_a_meaning_are_refused() {
    let sealed = |change: fn(&mut [u8])| {
        let mut frame = Vec::new();
        let start = begin_frame(&mut frame);
        end_frame(&mut frame, start, Opcode::Status, 1);
        change(&mut frame);
        let checksum = xxhash_rust::xxh3::xxh3_64(&frame[8..32]);
        frame[..8].copy_from_slice(&checksum.to_le_bytes());
        check_frame(&frame, 1000).map(|frame| frame.is_some())
    };
    assert_eq!(sealed(|_| {}), Ok(true));
    assert_eq!(sealed(|frame| frame[16] = 31), Err(Malformed::FrameSize));
    assert_eq!(sealed(|frame| frame[20] = 0x7f), Err(Malformed::Opcode));
    assert_eq!(sealed(|frame| frame[21] = FLAG_MORE | 2), Err(Malformed::Flags));
    assert_eq!(sealed(|frame| frame[22] = 1), Err(Malformed::Reserved));
    assert_eq!(sealed(|frame| frame[23] = 1), Err(Malformed::Reserved));
    assert_eq!(sealed(|frame| frame[8] ^= 1), Err(Malformed::BodyChecksum));
}

#[test]
fn transactions_nest_to_the_bound_and_not_beyond() {
    let nested = |depth: usize| {
        let mut txn = TxnRequest::default();
        for _ in 1..depth {
            txn = TxnRequest { success: vec![RequestOp::Txn(txn)], ..TxnRequest::default() };
        }
        encoded(&Request::Txn(txn))
    };
    assert!(Request::decode(Opcode::Txn, &nested(limits::TXN_DEPTH_MAX)).is_ok());
    let deeper = nested(limits::TXN_DEPTH_MAX + 1);
    assert_eq!(Request::decode(Opcode::Txn, &deeper), Err(Malformed::TxnDepth));
}

#[test]
fn a_count_that_the_body_cannot_hold_reserves_nothing() {
    for field in 0..3 {
        let mut body = encoded(&Request::Txn(TxnRequest::default()));
        body[field * 4..field * 4 + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Request::decode(Opcode::Txn, &body), Err(Malformed::Truncated));
    }
}

#[test]
fn hellos_come_back_and_versions_meet() {
    let hello = ClientHello { client: "test 1.0", ..ClientHello::default() };
    let mut body = Vec::new();
    hello.encode(&mut body);
    assert_eq!(ClientHello::decode(&body), Ok(hello));
    body.extend_from_slice(b"what a later version adds");
    assert_eq!(ClientHello::decode(&body), Ok(hello));
    body[0] ^= 1;
    assert_eq!(ClientHello::decode(&body), Err(Malformed::Magic));

    let speaks = |version_min, version_max| {
        ClientHello { version_min, version_max, ..hello }.version_chosen()
    };
    assert_eq!(speaks(1, 1), Some(1));
    assert_eq!(speaks(0, 7), Some(1));
    assert_eq!(speaks(2, 7), None);
    assert_eq!(speaks(0, 0), None);

    let answer = ServerHello {
        version: 1,
        features: 1,
        frame_size_bytes_max: 70_000,
        identity: ServerIdentity {
            cluster_id: 2,
            member_id: 3,
            server_version: "3.6.0".to_owned(),
        },
        limits: ServerLimits::default(),
    };
    let mut body = Vec::new();
    answer.encode(&mut body);
    assert_eq!(ServerHello::decode(&body), Ok(answer));
}
