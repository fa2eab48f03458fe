//! What is encoded comes back; what is not whole, not meant or not in bounds is refused. No bytes,
//! whatever their checksum says, make a panic or a second form of a message.

use super::decode::decode;
use super::encode::{check_size_bytes, encode};
use super::error::PeerError;
use super::hello::{Hello, Purpose, Refusal, VERSION_MAX, VERSION_MIN};
use super::kind::MessageKind;
use super::limits;
use super::message::{Lane, PageRun, PageWanted, PeerMessage};
use super::reader::Reader;
use super::sample::{FROM, Sample, TO, hello};
use bytes::Bytes;
use engine::page::map::{Checksum, PAGE_SIZE_BYTES, PageNumber};
use proptest::prelude::*;
use raft::{Body, Configuration, EntryId, INDEX_MAX, Index, ReplicaId, TERM_MAX, Term};

fn encoded(group: u64, message: &PeerMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(group, message, check_size_bytes(message).unwrap(), &mut bytes);
    bytes
}

fn decoded(bytes: &[u8]) -> Result<(u64, PeerMessage), PeerError> {
    let mut shared = None;
    let mut reader = Reader::new(bytes, &mut shared);
    let message = decode(&mut reader, VERSION_MAX)?;
    reader.finish()?;
    Ok(message)
}

fn raft(term: u64, body: Body) -> PeerMessage {
    let (from, to) = (ReplicaId(FROM), ReplicaId(TO));
    PeerMessage::Raft(raft::Message { from, to, term: Term(term), body })
}

fn page_run(pages: usize) -> PageRun {
    let bytes = Some(Bytes::from(vec![7; pages * PAGE_SIZE_BYTES]));
    PageRun { first: PageNumber(9), bytes }
}

proptest! {
    #[test]
    fn messages_come_back_as_they_were_sent(seed: u64, group: u64) {
        for kind in MessageKind::ALL {
            let message = Sample(seed).message_of(*kind, seed);
            prop_assert_eq!(MessageKind::of(&message), *kind);
            let bytes = encoded(group, &message);
            prop_assert_eq!(decoded(&bytes), Ok((group, message)));
        }
    }

    #[test]
    fn a_message_cut_short_or_grown_is_refused(seed: u64, cut: u16) {
        let message = Sample(seed).message(1);
        let mut bytes = encoded(1, &message);
        let kept = usize::from(cut) % bytes.len();
        prop_assert!(decoded(&bytes[..kept]).is_err());
        // A size that agrees with the cut changes nothing.
        if size_of::<u32>() <= kept {
            let mut lying = bytes[..kept].to_vec();
            lying[..4].copy_from_slice(&(kept as u32).to_le_bytes());
            prop_assert_ne!(decoded(&lying), Ok((1, message.clone())));
        }
        bytes.push(0);
        prop_assert_eq!(decoded(&bytes), Err(PeerError::Trailing));
    }

    /// The checksum cannot help here: these bytes are as a hostile member would send them.
    #[test]
    fn altered_messages_are_refused_or_are_other_messages_in_their_only_form(seed: u64) {
        let mut sample = Sample(seed);
        for kind in MessageKind::ALL {
            let mut bytes = encoded(1, &sample.message_of(*kind, 1));
            for _ in 0..1 + sample.below(3) {
                let size = bytes.len();
                bytes[sample.below(size)] = sample.next() as u8;
            }
            if let Ok((group, message)) = decoded(&bytes) {
                prop_assert_eq!(encoded(group, &message), bytes);
            }
        }
    }

    #[test]
    fn garbage_is_refused_or_a_message_in_its_only_form(
        mut bytes in proptest::collection::vec(any::<u8>(), 16..400),
        slot in 0..MessageKind::ALL.len(),
    ) {
        let size = bytes.len() as u32;
        bytes[..4].copy_from_slice(&size.to_le_bytes());
        bytes[4] = MessageKind::ALL[slot] as u8;
        bytes[5..8].fill(0);
        if let Ok((group, message)) = decoded(&bytes) {
            prop_assert_eq!(&encoded(group, &message), &bytes);
        }
        let _ = Hello::decode(&bytes);
        let _ = Refusal::decode(&bytes);
    }
}

#[test]
fn a_list_is_as_long_as_what_was_sent() {
    let append = raft(
        3,
        Body::Append {
            previous: EntryId::default(),
            commit: Index(0),
            lease: raft::LeaseReads::Served,
            entries: Vec::new(),
        },
    );
    let counts = [
        (append, 16 + 24 + 24),
        (PeerMessage::Entries { sequence: 1, entries: Vec::new() }, 16 + 8),
        (PeerMessage::PageRequest { sequence: 1, pages: Vec::new() }, 16 + 8),
        (PeerMessage::Pages { sequence: 1, pages: Vec::new() }, 16 + 8),
    ];
    for (message, offset) in counts {
        let mut bytes = encoded(1, &message);
        for count in [1, u32::MAX] {
            bytes[offset..offset + 4].copy_from_slice(&count.to_le_bytes());
            assert_eq!(decoded(&bytes), Err(PeerError::Truncated), "{message:?}");
        }
    }
}

#[test]
fn numbers_that_raft_cannot_reckon_with_are_refused() {
    let heartbeat = |commit, term| {
        raft(
            term,
            Body::Heartbeat {
                commit: Index(commit),
                round: 0,
                lease: raft::LeaseReads::NotServed,
                disk: raft::DiskHealth::default(),
            },
        )
    };
    let check = |message: &PeerMessage| decoded(&encoded(0, message)).map(|_| ());
    assert_eq!(check(&heartbeat(INDEX_MAX.0, TERM_MAX.0)), Ok(()));
    assert_eq!(check(&heartbeat(INDEX_MAX.0 + 1, 1)), Err(PeerError::Field("index")));
    assert_eq!(check(&heartbeat(1, TERM_MAX.0 + 1)), Err(PeerError::Field("term")));
}

#[test]
fn a_configuration_is_sorted_and_small() {
    let with = |ids: &[u64]| {
        let voters = ids.iter().map(|id| ReplicaId(*id)).collect();
        let configuration = Configuration { voters, ..Configuration::default() };
        let snapshot = raft::Snapshot { last: EntryId::default(), configuration };
        decoded(&encoded(0, &raft(1, Body::Snapshot { snapshot }))).map(|_| ())
    };
    let most: Vec<u64> = (1..=raft::MEMBERS_COUNT_MAX as u64).collect();
    assert_eq!(with(&most), Ok(()));
    let more: Vec<u64> = (1..=raft::MEMBERS_COUNT_MAX as u64 + 1).collect();
    for broken in [&more[..], &[2, 1], &[1, 1], &[0, 1]] {
        assert_eq!(with(broken), Err(PeerError::Field("configuration")), "{broken:?}");
    }
}

#[test]
fn what_exceeds_a_bound_is_not_encoded_at_all() {
    let wanted = PageWanted { first: PageNumber(2), count: 1, checksum: Checksum(3) };
    let request = |runs| PeerMessage::PageRequest { sequence: 1, pages: vec![wanted; runs] };
    assert!(decoded(&encoded(0, &request(limits::PAGE_RUNS_MAX))).is_ok());
    assert_eq!(check_size_bytes(&request(limits::PAGE_RUNS_MAX + 1)), None);

    let gone = PageRun { first: PageNumber(2), bytes: None };
    let pages = |runs| PeerMessage::Pages { sequence: 1, pages: vec![gone.clone(); runs] };
    assert!(decoded(&encoded(0, &pages(limits::PAGE_RUNS_MAX))).is_ok());
    assert_eq!(check_size_bytes(&pages(limits::PAGE_RUNS_MAX + 1)), None);

    let run = page_run(limits::PAGE_RUN_PAGES_MAX as usize);
    let largest = PeerMessage::Pages { sequence: 1, pages: vec![run.clone()] };
    assert!(check_size_bytes(&largest).is_some());
    let larger = PeerMessage::Pages { sequence: 1, pages: vec![run.clone(), run] };
    assert_eq!(check_size_bytes(&larger), None);
}

#[test]
fn pages_come_whole_and_in_bounds() {
    let message = PeerMessage::Pages { sequence: 1, pages: vec![page_run(2)] };
    let bytes = encoded(0, &message);
    let size_offset = 16 + 16 + 8;
    let mut odd = bytes[..bytes.len() - 1].to_vec();
    let (message_size, run_size) = (odd.len() as u32, 2 * PAGE_SIZE_BYTES as u32 - 1);
    odd[..4].copy_from_slice(&message_size.to_le_bytes());
    odd[size_offset..size_offset + 4].copy_from_slice(&run_size.to_le_bytes());
    assert_eq!(decoded(&odd), Err(PeerError::Field("pages")));

    let wanted = PageWanted { first: PageNumber(2), count: 1, checksum: Checksum(3) };
    let bytes = encoded(0, &PeerMessage::PageRequest { sequence: 1, pages: vec![wanted] });
    let count_offset = 16 + 16 + 16;
    for count in [0, limits::PAGE_RUN_PAGES_MAX + 1] {
        let mut broken = bytes.clone();
        broken[count_offset..count_offset + 4].copy_from_slice(&count.to_le_bytes());
        assert_eq!(decoded(&broken), Err(PeerError::Field("pages")));
    }
}

/// An entry's bytes are neither copied one by one nor kept apart from their neighbours'.
#[test]
fn kept_bytes_are_slices_of_one_copy() {
    let mut sample = Sample(5);
    let entries = std::iter::repeat_with(|| sample.entries())
        .find(|entries| 2 < entries.len() && entries.iter().all(|entry| !entry.data.is_empty()));
    let bytes = encoded(0, &PeerMessage::Entries { sequence: 1, entries: entries.unwrap() });
    let mut shared = None;
    let (_, message) = decode(&mut Reader::new(&bytes, &mut shared), VERSION_MAX).unwrap();
    let shared = shared.unwrap();
    let PeerMessage::Entries { entries, .. } = message else {
        panic!("{message:?}");
    };
    for entry in &entries {
        let offset = entry.data.as_ptr() as usize - shared.as_ptr() as usize;
        assert_eq!(shared.slice(offset..offset + entry.data.len()), entry.data);
    }

    let bytes = encoded(0, &raft(1, Body::TimeoutNow));
    let mut shared = None;
    decode(&mut Reader::new(&bytes, &mut shared), VERSION_MAX).unwrap();
    assert_eq!(shared, None, "nothing to keep, nothing copied");
}

#[test]
fn kinds_are_known_from_their_version_on() {
    for kind in MessageKind::ALL {
        assert!(VERSION_MIN <= kind.since() && kind.since() <= VERSION_MAX);
        assert_eq!(MessageKind::check(*kind as u8, kind.since()), Ok(*kind));
        assert_eq!(MessageKind::check(*kind as u8, kind.since() - 1), Err(PeerError::Kind));
    }
    let known: Vec<u8> = MessageKind::ALL.iter().map(|kind| *kind as u8).collect();
    for number in (0..=u8::MAX).filter(|number| !known.contains(number)) {
        assert_eq!(MessageKind::check(number, VERSION_MAX), Err(PeerError::Kind));
    }
}

#[test]
fn what_keeps_its_order_goes_by_one_lane() {
    let mut sample = Sample(1);
    for kind in MessageKind::ALL {
        let expected = match kind {
            MessageKind::Append
            | MessageKind::Commit
            | MessageKind::Snapshot
            | MessageKind::Propose
            | MessageKind::Meta
            | MessageKind::Pages
            | MessageKind::Entries => Lane::Bulk,
            // Long with its keys, short without: by the answer.
            MessageKind::Reply => continue,
            _ => Lane::Control,
        };
        assert_eq!(sample.message_of(*kind, 1).lane(), expected, "{kind:?}");
    }
}

#[test]
fn hello_comes_back_and_says_more_to_a_newer_version() {
    let mut mine = hello(1, 2);
    for purpose in [Purpose::Raft, Purpose::Transfer] {
        mine.purpose = purpose;
        let mut body = Vec::new();
        mine.encode(&mut body);
        assert_eq!(Hello::decode(&body), Ok((VERSION_MAX, mine.clone())));
        for size in 0..body.len() {
            assert_eq!(Hello::decode(&body[..size]), Err(PeerError::Truncated));
        }
        body.extend_from_slice(b"of a later version");
        assert_eq!(Hello::decode(&body), Ok((VERSION_MAX, mine.clone())));
    }
}

#[test]
fn hello_chooses_the_newest_version_of_both() {
    let mut body = Vec::new();
    hello(1, 2).encode(&mut body);
    let mut with = |min: u16, max: u16| {
        body[..2].copy_from_slice(&min.to_le_bytes());
        body[2..4].copy_from_slice(&max.to_le_bytes());
        Hello::decode(&body).map(|(version, _)| version)
    };
    assert_eq!(with(0, VERSION_MAX + 5), Ok(VERSION_MAX));
    assert_eq!(with(VERSION_MAX, VERSION_MAX), Ok(VERSION_MAX));
    assert_eq!(with(VERSION_MAX + 1, VERSION_MAX + 1), Err(PeerError::Version));
    assert_eq!(with(0, VERSION_MIN - 1), Err(PeerError::Version));
    assert_eq!(with(2, 1), Err(PeerError::Field("version")));
}

#[test]
fn hello_is_bounded_whatever_the_names_are() {
    let mut mine = hello(1, 2);
    let long = "é".repeat(limits::TEXT_SIZE_BYTES_MAX);
    mine.name = format!("x{long}");
    let url = |slot: usize| format!("http://host-{slot}:2380");
    mine.peer_urls = (0..40).map(url).collect();
    mine.peer_urls[1] = long;
    let mut body = Vec::new();
    mine.encode(&mut body);
    assert!(body.len() <= limits::HELLO_SIZE_BYTES_MAX - limits::FRAME_HEADER_SIZE_BYTES);
    let (_, theirs) = Hello::decode(&body).unwrap();
    assert_eq!(theirs.name.len(), limits::TEXT_SIZE_BYTES_MAX - 1, "cut between characters");
    assert!(mine.name.starts_with(&theirs.name));
    let kept: Vec<String> = (0..17).filter(|slot| *slot != 1).map(url).collect();
    assert_eq!(theirs.peer_urls, kept);
}

#[test]
fn hello_without_a_meaning_is_refused() {
    let mut body = Vec::new();
    hello(1, 2).encode(&mut body);
    let altered = |offset: usize, byte: u8| {
        let mut body = body.clone();
        body[offset] = byte;
        Hello::decode(&body).map(|_| ())
    };
    assert_eq!(altered(4, 0), Err(PeerError::Field("cores")));
    assert_eq!(altered(6, 3), Err(PeerError::Field("purpose")));
    assert_eq!(altered(7, 1), Err(PeerError::Reserved));
    assert_eq!(altered(24, 0), Err(PeerError::Field("from_member")));
    assert_eq!(altered(60, 0xff), Err(PeerError::Text));
    assert_eq!(altered(57, 0xff), Err(PeerError::Field("text size")));
    assert_eq!(altered(63, 1), Err(PeerError::Field("peer_urls")));
}

#[test]
fn refusals_come_back_and_only_they() {
    let refusals = [
        Refusal::Cluster { cluster_id: 9 },
        Refusal::Epoch { epoch: 8 },
        Refusal::NotMe { member_id: u64::MAX },
        Refusal::Removed,
        Refusal::Birth,
        Refusal::Incarnation { known: 7 },
        Refusal::Version { min: 2, max: u16::MAX },
        Refusal::Busy,
        Refusal::Itself,
    ];
    for (slot, refusal) in refusals.into_iter().enumerate() {
        let mut body = Vec::new();
        refusal.encode(&mut body);
        assert_eq!(usize::from(body[0]), slot + 1);
        assert_eq!(Refusal::decode(&body), Ok(refusal));
        body[0] = refusals.len() as u8 + 1;
        assert_eq!(Refusal::decode(&body), Err(PeerError::Field("refusal")));
        body.push(0);
        assert_eq!(Refusal::decode(&body), Err(PeerError::Trailing));
        assert_eq!(Refusal::decode(&body[..23]), Err(PeerError::Truncated));
    }
}

#[test]
fn hellos_are_compared_from_the_coarse_to_the_fine() {
    let mine = hello(1, 0);
    let good = hello(2, 1);
    assert_eq!(mine.check(&good), Ok(()));
    let mut theirs = Hello { to_member: 3, ..good };
    assert_eq!(mine.check(&theirs), Err(Refusal::NotMe { member_id: 1 }));
    theirs.from_member = 1;
    assert_eq!(mine.check(&theirs), Err(Refusal::Birth));
    theirs.birth_id = mine.birth_id;
    assert_eq!(mine.check(&theirs), Err(Refusal::Itself));
    theirs.epoch = 1;
    assert_eq!(mine.check(&theirs), Err(Refusal::Epoch { epoch: 0 }));
    theirs.cluster_id = 1;
    assert_eq!(mine.check(&theirs), Err(Refusal::Cluster { cluster_id: 0xc1 }));
}
