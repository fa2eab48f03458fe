//! The freelist against a plain model of its laws, over files of several bitmap and index pages.

use super::freelist::{Extent, Freelist};
use super::limits::{BITMAP_PAGES, INDEX_BITMAPS, PUNCH_PAGES_MIN, RUN_PAGES_MAX};
use super::map::PageNumber;
use std::collections::BTreeMap;

/// Ends an interval as sealing does: what was touched has its place now.
fn end_interval(freelist: &mut Freelist) {
    freelist.end_interval();
    freelist.bitmaps.iter_mut().for_each(|bitmap| bitmap.touched = false);
    freelist.indexes.iter_mut().for_each(|index| index.touched = false);
}

/// Every page of the file is shown once, or is one of `used`.
fn verify_states(freelist: &Freelist, used: &BTreeMap<u64, Used>) {
    let mut pages: Vec<Extent> = vec![Extent { first: 0, pages: 2 }];
    freelist.for_each_page(&mut |first, count| pages.push(Extent { first: first.0, pages: count }));
    pages.extend(used.iter().map(|(&first, run)| Extent { first, pages: run.pages as u64 }));
    pages.sort_unstable();
    let mut end = 0;
    for extent in pages {
        assert_eq!(extent.first, end, "a page is in exactly one state");
        end += extent.pages;
    }
    assert_eq!(end, freelist.page_count);
}

#[derive(Clone, Copy, Debug)]
struct Used {
    pages: u32,
    interval: u64,
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn pages_freed_in_an_interval_are_taken_two_later_at_the_earliest() {
    let mut freelist = Freelist::new();
    let mut used: BTreeMap<u64, Used> = BTreeMap::new();
    // First interval in which a page may be taken again.
    let mut held: BTreeMap<u64, u64> = BTreeMap::new();
    let mut random = 5;
    let mut taken_again = 0;
    for interval in 1..60u64 {
        for _ in 0..400 {
            if next(&mut random) % 5 < 3 || used.is_empty() {
                let pages = match next(&mut random) % 4 {
                    0 => 1 + (next(&mut random) % RUN_PAGES_MAX as u64) as u32,
                    _ => 1,
                };
                let first = freelist.take_run(pages).0;
                for page in first..first + pages as u64 {
                    if let Some(from) = held.remove(&page) {
                        assert!(from <= interval, "page {page} is still reached");
                        taken_again += 1;
                    }
                }
                used.insert(first, Used { pages, interval });
                continue;
            }
            let at = next(&mut random) % freelist.page_count;
            let near = used.range(at..).next().or_else(|| used.iter().next());
            let (&first, &run) = near.unwrap();
            used.remove(&first);
            let is_own = run.interval == interval;
            let from = if is_own { interval } else { interval + 2 };
            held.extend((first..first + run.pages as u64).map(|page| (page, from)));
            if is_own {
                freelist.free_now(PageNumber(first), run.pages);
            } else {
                freelist.free_later(PageNumber(first), run.pages);
            }
        }
        verify_states(&freelist, &used);
        end_interval(&mut freelist);
        verify_states(&freelist, &used);
    }
    assert!(BITMAP_PAGES < freelist.page_count, "the file has several bitmap pages");
    assert!(100_000 < taken_again);
}

#[test]
fn the_lowest_number_is_taken_first() {
    let mut freelist = Freelist::new();
    let pages: Vec<u64> = (0..100).map(|_| freelist.take_one().0).collect();
    assert_eq!(pages, (2..102).collect::<Vec<u64>>());
    end_interval(&mut freelist);
    for page in [50, 20, 21, 22, 23, 24, 80] {
        freelist.free_later(PageNumber(page), 1);
    }
    end_interval(&mut freelist);
    assert_eq!(freelist.free, 0);
    end_interval(&mut freelist);
    assert_eq!(freelist.free, 7);
    // The first page taken gives the index page and the bitmap page new numbers: 20 and 21.
    assert_eq!(freelist.take_run(3).0, 22);
    assert_eq!(freelist.indexes[0].place.page().0, 20);
    assert_eq!(freelist.bitmaps[0].place.page().0, 21);
    assert_eq!([freelist.take_one().0, freelist.take_one().0], [50, 80]);
    assert_eq!(freelist.free, 0);
}

#[test]
fn a_file_of_several_index_pages() {
    let mut freelist = Freelist::new();
    let pages_of_index = INDEX_BITMAPS as u64 * BITMAP_PAGES;
    let mut runs = Vec::new();
    while freelist.page_count < pages_of_index + BITMAP_PAGES {
        runs.push(freelist.take_run(RUN_PAGES_MAX));
    }
    assert_eq!(freelist.indexes.len(), 2);
    end_interval(&mut freelist);
    let (&first, &last) = (runs.first().unwrap(), runs.last().unwrap());
    freelist.free_later(last, RUN_PAGES_MAX);
    freelist.free_later(first, RUN_PAGES_MAX);
    end_interval(&mut freelist);
    assert_eq!(freelist.free, 0);
    end_interval(&mut freelist);
    let taken = freelist.take_run(RUN_PAGES_MAX - 8);
    assert!(first.0 <= taken.0 && taken.0 <= first.0 + 8, "the first run is the lowest");
    assert!(freelist.indexes.iter().all(|index| !index.place.is_none()));
}

#[test]
fn a_run_across_two_bitmap_pages_comes_back() {
    let mut freelist = Freelist::new();
    while freelist.page_count < BITMAP_PAGES - 10 {
        freelist.take_one();
    }
    let run = freelist.take_run(20);
    assert_eq!(run.0, BITMAP_PAGES - 10);
    end_interval(&mut freelist);
    freelist.free_later(run, 20);
    end_interval(&mut freelist);
    end_interval(&mut freelist);
    assert_eq!(freelist.free, 20);
    // Within one bitmap page ten of its pages lie together, two of which the freelist takes itself.
    assert_eq!(freelist.take_run(8).0, run.0 + 2);
    assert_eq!(freelist.free_run(PageNumber(0), u64::from(PUNCH_PAGES_MIN)), None);
}
