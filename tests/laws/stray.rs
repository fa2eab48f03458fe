//! Storage, "Reading through the map" 1, of a single member: a page write that its disk lost, or put
//! in another page's place, is told and never served. Nobody else has the page.

use std::collections::BTreeMap;

use engine::api::{PutRequest, RangeRequest};
use engine::page::heap::HeapPages;
use engine::page::map::{PAGE_SIZE_BYTES, PageNumber};
use net::wire::{Answer, Request};
use tests::sim::client::SimClient;
use tests::sim::member::{SimMember, Storage, config};

const KEYS: usize = 120;
/// Pages that are damaged, one at a time.
const SAMPLES: usize = 12;
const META_PAGES: usize = 2;

fn key(number: usize) -> Vec<u8> {
    format!("key-{number:04}").into_bytes()
}

fn value(number: usize, round: u8) -> Vec<u8> {
    vec![round; if number % 50 == 7 { 9_000 } else { 150 }]
}

/// A store at rest after so many rounds of puts, each to two keys of three.
fn written(mut storage: Storage, rounds: std::ops::Range<u8>) -> Storage {
    for round in rounds {
        let mut member = SimMember::start(config(), storage, 1_000_000).expect("it starts");
        let mut client = SimClient::connect(&mut member);
        for number in (0..KEYS).filter(|number| number % 3 != usize::from(round % 3)) {
            let (key, value) = (key(number), value(number, round));
            let put = PutRequest { key: &key, value: &value, ..PutRequest::default() };
            client.call(&mut member, &Request::Put(put)).expect("it is put");
        }
        // Longer than a store takes to come to rest.
        (0..100).for_each(|_| member.advance(100_000));
        storage = member.kill();
    }
    storage
}

fn page(pages: &HeapPages, number: usize) -> Vec<u8> {
    let start = number * PAGE_SIZE_BYTES;
    let bytes = pages.bytes().get(start..start + PAGE_SIZE_BYTES);
    bytes.map_or(vec![0; PAGE_SIZE_BYTES], <[u8]>::to_vec)
}

fn set_page(pages: &mut HeapPages, number: usize, bytes: &[u8]) {
    let start = number * PAGE_SIZE_BYTES;
    pages.bytes_mut()[start..start + PAGE_SIZE_BYTES].copy_from_slice(bytes);
}

/// What a member says of its keys: (refused, read) pieces; `None` if it does not start.
fn read(storage: Storage, model: &BTreeMap<Vec<u8>, Vec<u8>>) -> Option<(usize, usize)> {
    let mut member = SimMember::start(config(), storage, 1_000_000).ok()?;
    member.advance(3_000_000);
    let mut client = SimClient::connect(&mut member);
    let (mut refused, mut read) = (0, 0);
    for first in (0..KEYS).step_by(20) {
        let (from, to) = (key(first), key(first + 20));
        let range = RangeRequest { key: &from, range_end: &to, ..RangeRequest::default() };
        match client.call(&mut member, &Request::Range(range)) {
            Ok((_, Answer::Range(range))) => {
                let found = range.kvs.iter().map(|kv| (kv.key.to_vec(), kv.value.to_vec()));
                let expected = model.range(from.clone()..to.clone());
                let expected = expected.map(|(key, value)| (key.clone(), value.clone()));
                assert!(found.eq(expected), "something else was served from {first} on");
                read += 1;
            }
            Ok(other) => panic!("{other:?}"),
            Err(failure) => {
                assert!(failure.message.contains("corrupt"), "{failure:?}");
                refused += 1;
            }
        }
    }
    Some((refused, read))
}

#[test]
fn storage_map_1_a_lost_or_misplaced_write_is_told_by_a_single_member_and_never_served() {
    let old = written(Storage::default(), 1..4);
    let new = written(old.clone(), 4..6);
    let mut model = BTreeMap::new();
    for round in 1..6 {
        let changed = (0..KEYS).filter(|number| number % 3 != usize::from(round % 3));
        model.extend(changed.map(|number| (key(number), value(number, round))));
    }
    assert_eq!(read(new.clone(), &model).map(|(refused, _)| refused), Some(0));
    let count = new.pages.bytes().len() / PAGE_SIZE_BYTES;
    let differs = |number: &usize| page(&old.pages, *number) != page(&new.pages, *number);
    let changed: Vec<usize> = (META_PAGES..count).filter(differs).collect();
    assert!(SAMPLES < changed.len(), "checkpoints wrote pages");
    let (mut refused, mut refused_starts, mut served) = (0, 0, 0);
    let step = changed.len().div_ceil(SAMPLES);
    for (slot, number) in changed.iter().enumerate().step_by(step) {
        let mut lost = new.clone();
        set_page(&mut lost.pages, *number, &page(&old.pages, *number));
        let mut misplaced = lost.clone();
        let target = changed[(slot + 1) % changed.len()];
        set_page(&mut misplaced.pages, target, &page(&new.pages, *number));
        let mut unreadable = new.clone();
        unreadable.pages.break_page(PageNumber(*number as u64));
        for storage in [lost, misplaced, unreadable] {
            match read(storage, &model) {
                Some((0, _)) => {}
                Some((some, pieces)) => {
                    refused += some;
                    served += pieces;
                }
                None => refused_starts += 1,
            }
        }
    }
    assert!(0 < refused + refused_starts, "damage to what is in use is told");
    assert!(0 == refused || 0 < served, "{refused} refused, {served} served: the rest is served");
}
