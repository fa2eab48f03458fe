//! The page file and the side file of a transfer.

use std::sync::Arc;
use std::sync::mpsc::channel;

use engine::page::map::{PAGE_SIZE_BYTES, PageMap, PageNumber, checksum};
use server::driver::page_file;
use server::driver::page_file::PageFileMap;
use server::error::Fault;
use shard::effect::{Effect, Effects};
use shard::input::Input;

use super::running::{Driver, PATIENCE, Running, keep_house};

/// Pages, their sync and the meta page are told in order, and are read back through the map.
fn pages_are_written_and_read_back(driver: Driver) {
    let (done, finished) = channel();
    let running = Running::start(driver, move |map| {
        let mut is_first = true;
        let mut started = false;
        let bytes: Arc<[u8]> = vec![0xab; 3 * PAGE_SIZE_BYTES].into();
        move |_, inputs: &mut Vec<Input>, effects: &mut Effects| {
            keep_house(&mut is_first, inputs, effects);
            if !std::mem::replace(&mut started, true) {
                effects.push(Effect::PageWrite { first: 5, bytes: Arc::clone(&bytes) });
                effects.push(Effect::PageSync { interval: 1 });
            }
            for input in inputs.drain(..) {
                match input {
                    Input::PagesSynced { interval: 1 } => {
                        let read = map.pages(PageNumber(5), 3, checksum(&bytes)).unwrap();
                        assert_eq!(read, &bytes[..]);
                        let meta = Arc::from(&bytes[..PAGE_SIZE_BYTES]);
                        effects.push(Effect::MetaWrite { interval: 1, slot: 1, bytes: meta });
                        effects.push(Effect::PunchHole { first: 6, pages: 2 });
                    }
                    Input::MetaSynced { interval: 1 } => done.send(()).unwrap(),
                    _ => {}
                }
            }
        }
    });
    finished.recv_timeout(PATIENCE).unwrap();
    let directory = Arc::clone(&running.directory);
    running.stop().unwrap();
    let (_, _, meta) = page_file::open(&directory.path().join("default.pages"), None).unwrap();
    assert_eq!(meta[1], Some(vec![0xab; PAGE_SIZE_BYTES]));
}

/// Puts the effects of one step to a core in a directory, and waits for the answer it names.
fn ask(
    driver: Driver,
    directory: &Arc<tempfile::TempDir>,
    asked: Vec<Effect>,
    is_answer: fn(&Input) -> bool,
    then: impl Fn(&PageFileMap) + Send + 'static,
) {
    let (done, finished) = channel();
    let running = Running::start_in(Arc::clone(directory), driver, None, move |map| {
        let mut is_first = true;
        let mut asked = Some(asked);
        move |_, inputs: &mut Vec<Input>, effects: &mut Effects| {
            keep_house(&mut is_first, inputs, effects);
            asked.take().into_iter().flatten().for_each(|effect| effects.push(effect));
            if inputs.drain(..).any(|input| is_answer(&input)) {
                then(&map);
                done.send(()).unwrap();
            }
        }
    });
    finished.recv_timeout(PATIENCE).unwrap();
    running.stop().unwrap();
}

/// A transfer whose process ends after each of its steps: old pages are there until the install,
/// the install may be done again from the start, and afterwards the side file goes.
fn a_side_file_outlives_the_process_and_is_installed(driver: Driver) {
    let pages =
        |fill: u8, count: usize| -> Arc<[u8]> { vec![fill; count * PAGE_SIZE_BYTES].into() };
    let directory = Arc::new(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
    let (old, new) = (pages(1, 8), pages(2, 4));
    let written = vec![
        Effect::PageWrite { first: 2, bytes: Arc::clone(&old) },
        Effect::PageSync { interval: 1 },
        Effect::SideWrite { first: 4, bytes: Arc::clone(&new) },
        Effect::SideWrite { first: 30, bytes: Arc::clone(&new) },
        Effect::SideSync { number: 6 },
    ];
    let shown = Arc::clone(&old);
    let is_synced = |input: &Input| matches!(input, Input::SideSynced { number: 6 });
    ask(driver, &directory, written, is_synced, move |map| {
        assert_eq!(map.pages(PageNumber(2), 8, checksum(&shown)).unwrap(), &shown[..]);
    });
    let side = directory.path().join("default.pages.side");
    assert!(side.exists());
    for _ in 0..2 {
        let install = vec![Effect::PagesInstall { runs: vec![(4, 4), (30, 2)], whole_pages: None }];
        let (old, new) = (pages(1, 2), pages(2, 4));
        let is_installed = |input: &Input| matches!(input, Input::PagesInstalled);
        ask(driver, &directory, install, is_installed, move |map| {
            assert_eq!(map.pages(PageNumber(4), 4, checksum(&new)).unwrap(), &new[..]);
            for (first, of) in [(2, &old), (8, &old)] {
                assert_eq!(map.pages(PageNumber(first), 2, checksum(of)).unwrap(), &of[..]);
            }
            let run = &new[..2 * PAGE_SIZE_BYTES];
            assert_eq!(map.pages(PageNumber(30), 2, checksum(run)).unwrap(), run);
            // Written beside the run that was named, and so not copied.
            assert!(map.pages(PageNumber(32), 1, checksum(&new[..PAGE_SIZE_BYTES])).is_err());
        });
    }
    // Done in order with other orders of pages: the sync behind it is told when it is gone.
    let discard = vec![Effect::SideDiscard, Effect::PageSync { interval: 2 }];
    let gone = side.clone();
    let is_synced = |input: &Input| matches!(input, Input::PagesSynced { interval: 2 });
    ask(driver, &directory, discard, is_synced, move |_| assert!(!gone.exists()));
}

/// Asked to install what no transfer left, a core ends instead of making it up.
fn an_install_without_its_side_file_is_a_fault(driver: Driver) {
    let running = Running::start(driver, |_| {
        let mut asked = Some(Effect::PagesInstall { runs: vec![(2, 1)], whole_pages: None });
        move |_, inputs: &mut Vec<Input>, effects: &mut Effects| {
            asked.take().into_iter().for_each(|effect| effects.push(effect));
            assert!(!inputs.drain(..).any(|input| matches!(input, Input::PagesInstalled)));
        }
    });
    let fault = running.thread.join().unwrap().unwrap_err();
    assert!(matches!(fault, Fault::SideFile { first: 2, .. }), "{fault:?}");
}

on_both_drivers! {
    pages_are_written_and_read_back
    a_side_file_outlives_the_process_and_is_installed
    an_install_without_its_side_file_is_a_fault
}
