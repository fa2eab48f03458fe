//! A page that is not what its parent says is fetched from another member and written in its place.
//!
//! Invariants: what is written has the checksum that the parent says, so it is the page, whoever
//! sent it (replicas are equal page by page); while a page is being mended no interval ends, so it
//! cannot be freed and taken for something else meanwhile; it is written by way of the side file,
//! never beside a state transfer, so that one completion answers one order; what waits for a page
//! is answered when it is mended or given up; a page that apply needs and nobody has any more is
//! replaced with all others by a newer checkpoint of another member.
//! Source: architecture.md, section 6; storage.md, "Reading through the map" 4.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use engine::page::map::{Checksum, Corruption, PAGE_SIZE_BYTES, PageMap, PageNumber, checksum};
use net::peer::{PageRun, PageWanted, PeerMessage};

use crate::effect::{Effect, Effects, LogLevel};
use crate::message::Unavailable;
use crate::metrics::{Metrics, Scalar};
use crate::peers::Peers;
use crate::replica::{DEFAULT_GROUP, Replica};

/// Broken pages and runs that are mended at the same time; more are errors.
const BROKEN_MAX: usize = 64;
/// Of those, asked for and not answered yet: less than a member lets wait on one connection.
const ASKED_MAX: usize = 16;
/// A question without an answer goes to the next member after this long.
const RETRY_US: u64 = 250_000;
/// Members that did not have a page are asked again after this long: it may be on its way to disk.
const ASK_AGAIN_US: u64 = 500_000;
/// A page that only reads wait for is given up after this long.
const GIVE_UP_US: u64 = 3_000_000;
/// It is not asked for again for so long; reads of it are refused at once.
const GIVEN_UP_US: u64 = 10_000_000;
/// Pages of which that is remembered.
const GIVEN_UP_MAX: usize = 1_024;
/// That a page which apply waits for cannot be had is said this often.
const COMPLAIN_US: u64 = 10_000_000;

/// Who asks for a page to be mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replica) enum Need {
    /// Something that can be refused.
    Read,
    /// Nothing is applied without it.
    Apply,
}

/// Broken pages that are being mended.
#[derive(Debug, Default)]
pub(in crate::replica) struct PageRepair {
    /// By first page.
    broken: BTreeMap<u64, Broken>,
    /// First pages of what is being written.
    writing: Vec<u64>,
    /// Given up; else no interval would end while they are asked for.
    given_up: BTreeMap<u64, GivenUp>,
    /// When it was looked at last.
    seen_us: u64,
    /// Found broken since it was last told.
    found_count: u64,
    next_sequence: u64,
}

#[derive(Debug)]
struct Broken {
    count: u32,
    expected: Checksum,
    need: Need,
    /// Members that are not asked for now: they do not have it, or cannot be reached.
    without: BTreeSet<u64>,
    /// Members that said that they do not have it.
    denied: BTreeSet<u64>,
    asked: Option<Asked>,
    /// Who sent it, and its bytes, of the right checksum.
    found: Option<(u64, Bytes)>,
    /// When the members that did not have it are asked again.
    again_us: u64,
    complain_us: u64,
}

#[derive(Clone, Copy, Debug)]
struct GivenUp {
    /// It is not asked for again before.
    until_us: u64,
    /// Why what needs it is refused.
    why: Unavailable,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    member: u64,
    sequence: u64,
    at_us: u64,
}

impl PageRepair {
    /// Whether the own pages have to stay what they are.
    pub fn holds_pages(&self) -> bool {
        !self.broken.is_empty()
    }

    /// Whether pages are being written by way of the side file.
    pub fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }

    /// Whether apply waits for a page.
    pub fn is_needed(&self) -> bool {
        self.broken.values().any(|broken| broken.need == Need::Apply)
    }

    /// Takes a page in. False if there is no room.
    fn add(&mut self, corruption: &Corruption, need: Need, now_us: u64) -> bool {
        let Corruption { page, count, expected, .. } = *corruption;
        if let Some(known) = self.broken.get_mut(&page.0) {
            if need == Need::Apply {
                known.need = need;
            }
            return known.expected == expected;
        }
        let is_given_up = self.given_up.get(&page.0).is_some_and(|known| now_us < known.until_us);
        if need == Need::Read && (is_given_up || BROKEN_MAX <= self.broken.len()) {
            // Apply waits for one at a time: there is room for that.
            return false;
        }
        if self.broken.is_empty() {
            self.seen_us = now_us;
        }
        let broken = Broken {
            count,
            expected,
            need,
            without: BTreeSet::new(),
            denied: BTreeSet::new(),
            asked: None,
            found: None,
            again_us: now_us + ASK_AGAIN_US,
            complain_us: now_us + GIVE_UP_US,
        };
        self.broken.insert(page.0, broken);
        self.found_count += 1;
        true
    }

    /// A process that stood still has waited for nobody: what it did not live through does not count.
    fn pass_over_pause(&mut self, now_us: u64) {
        let pause_us = (now_us - self.seen_us).saturating_sub(RETRY_US);
        self.seen_us = now_us;
        if pause_us == 0 {
            return;
        }
        for broken in self.broken.values_mut() {
            broken.again_us += pause_us;
            broken.complain_us += pause_us;
            if let Some(asked) = &mut broken.asked {
                asked.at_us += pause_us;
            }
        }
    }

    /// Takes an answer of `member`. One that comes after the next member was asked is as good: the
    /// checksum says so, and over a slow link there may be no other.
    fn on_answer(&mut self, member: u64, sequence: u64, pages: &[PageRun]) {
        for run in pages {
            let Some(broken) = self.broken.get_mut(&run.first.0) else { continue };
            let bytes = run.bytes.as_ref().filter(|bytes| broken.is(bytes));
            if let (Some(bytes), None) = (bytes, &broken.found) {
                broken.found = Some((member, bytes.clone()));
            }
        }
        let is_answered = |broken: &Broken| {
            broken.asked.is_some_and(|asked| (asked.member, asked.sequence) == (member, sequence))
        };
        for broken in self.broken.values_mut().filter(|broken| is_answered(broken)) {
            broken.asked = None;
            if broken.found.is_none() {
                broken.without.insert(member);
                broken.denied.insert(member);
            }
        }
    }

    /// Asks one member for each page that nobody is asked for.
    fn ask(&mut self, members: &[u64], now_us: u64, peers: &mut Peers) {
        let is_asked = |broken: &&Broken| broken.asked.is_some();
        let mut asked_count = self.broken.values().filter(is_asked).count();
        for (first, broken) in &mut self.broken {
            if broken.asked.is_some_and(|asked| asked.at_us + RETRY_US <= now_us) {
                asked_count -= 1;
            }
            let Some(member) = broken.next_member(members, now_us) else { continue };
            if ASKED_MAX <= asked_count {
                continue;
            }
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            let page = PageWanted {
                first: PageNumber(*first),
                count: broken.count,
                checksum: broken.expected,
            };
            let request = PeerMessage::PageRequest { sequence, pages: vec![page] };
            match peers.send(member, DEFAULT_GROUP, &request) {
                Ok(()) => {
                    broken.asked = Some(Asked { member, sequence, at_us: now_us });
                    asked_count += 1;
                }
                // Another one, for now.
                Err(_) => {
                    broken.without.insert(member);
                }
            }
        }
    }

    /// What was found and can be written: first page, bytes, ascending and disjoint.
    fn take_found(&mut self) -> Vec<(u64, Arc<[u8]>)> {
        assert!(self.writing.is_empty());
        let mut pages = Vec::new();
        let mut end = 2;
        for (first, broken) in &self.broken {
            if let Some((_, bytes)) = &broken.found
                && end <= *first
            {
                assert!(broken.is(bytes));
                end = first + u64::from(broken.count);
                pages.push((*first, Arc::from(&bytes[..])));
                self.writing.push(*first);
            }
        }
        pages
    }
}

impl Broken {
    /// Whether these are the bytes that belong there.
    fn is(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.count as usize * PAGE_SIZE_BYTES && checksum(bytes) == self.expected
    }

    /// Whom to ask, if somebody is to be asked now.
    fn next_member(&mut self, members: &[u64], now_us: u64) -> Option<u64> {
        if self.found.is_some() {
            return None;
        }
        let silent = match self.asked {
            Some(asked) if now_us < asked.at_us + RETRY_US => return None,
            asked => asked.map_or(0, |asked| asked.member),
        };
        self.asked = None;
        if self.again_us <= now_us {
            self.again_us = now_us + ASK_AGAIN_US;
            self.without.clear();
        }
        let mut others = members.iter().filter(|member| !self.without.contains(member));
        // The one behind the one that said nothing, else from the beginning.
        let next = others.clone().find(|member| silent < **member);
        next.or_else(|| others.next()).copied()
    }
}

impl<M: PageMap> Replica<M> {
    /// A page turned out to be broken. Whether it is being mended: then who met it waits for
    /// [`Replica::run_page_repair`] to say that it is, or that it is given up.
    pub(in crate::replica) fn on_broken_page(
        &mut self,
        corruption: &Corruption,
        need: Need,
    ) -> bool {
        if !self.has_others() || self.is_installing() {
            return false;
        }
        let is_mended = self.page_repair.add(corruption, need, self.now_us);
        self.needs_step |= is_mended;
        is_mended
    }

    /// Whether there is anybody to ask.
    pub(in crate::replica) fn has_others(&self) -> bool {
        self.opening.is_some() || 1 < self.raft.configuration().members().count()
    }

    /// One more step of mending pages.
    pub(in crate::replica) fn run_page_repair(
        &mut self,
        peers: &mut Peers,
        metrics: &mut Metrics,
        fx: &mut Effects,
    ) {
        metrics.add(Scalar::PagesBroken, std::mem::take(&mut self.page_repair.found_count));
        if self.page_repair.broken.is_empty() || self.is_installing() {
            return;
        }
        self.page_repair.pass_over_pause(self.now_us);
        self.give_up_overdue(fx);
        let members: Vec<u64> = self.connected_since_us.keys().copied().collect();
        self.page_repair.ask(&members, self.now_us, peers);
        if !self.page_repair.is_writing() && !self.receiving.holds_pages() {
            let found = self.page_repair.take_found();
            if !found.is_empty() {
                self.receiving.discard_side(fx);
                let count = |bytes: &Arc<[u8]>| (bytes.len() / PAGE_SIZE_BYTES) as u64;
                let runs = found.iter().map(|(first, bytes)| (*first, count(bytes))).collect();
                for (first, bytes) in found {
                    fx.push(Effect::SideWrite { first, bytes });
                }
                fx.push(Effect::PagesInstall { runs, whole_pages: None });
            }
        }
        fx.wake_at(self.now_us + RETRY_US);
    }

    /// Pages that were asked for here came.
    pub(in crate::replica) fn on_repair_pages(
        &mut self,
        member: u64,
        sequence: u64,
        pages: &[PageRun],
    ) {
        self.page_repair.on_answer(member, sequence, pages);
    }

    /// The pages lie in their places, durable: what waited for them goes on.
    pub(in crate::replica) fn on_pages_repaired(
        &mut self,
        metrics: &mut Metrics,
        fx: &mut Effects,
    ) {
        let written = std::mem::take(&mut self.page_repair.writing);
        assert!(!written.is_empty(), "pages are written when they were asked for");
        fx.push(Effect::SideDiscard);
        for first in written {
            let broken = self.page_repair.broken.remove(&first);
            let broken = broken.expect("what is being written is not given up");
            let (member, _) = broken.found.expect("it was written");
            metrics.add(Scalar::PagesRepaired, u64::from(broken.count));
            let fields = vec![
                ("page", first.to_string()),
                ("pages", broken.count.to_string()),
                ("from", format!("\"{member:x}\"")),
            ];
            let message = "a broken page was repaired from another member".to_string();
            fx.push(Effect::Log { level: LogLevel::Warn, message, fields });
            self.reads.resume(first);
            self.look_ahead.resume(first);
        }
        self.needs_step = true;
    }

    /// The store that the broken pages belong to is gone: what waited looks again.
    pub(in crate::replica) fn end_page_repair(&mut self) {
        assert!(!self.page_repair.is_writing(), "nothing is installed meanwhile");
        for first in std::mem::take(&mut self.page_repair.broken).into_keys() {
            self.reads.resume(first);
            self.look_ahead.resume(first);
        }
    }

    /// Why what needs a page is refused that is not being mended. Where there are others, and none
    /// was asked for want of room, nobody knows that it is lost.
    pub(in crate::replica) fn refusal_of(&self, corruption: &Corruption) -> Unavailable {
        match self.page_repair.given_up.get(&corruption.page.0) {
            Some(known) => known.why,
            None if self.has_others() => Unavailable::TimedOut,
            None => Unavailable::Corrupt,
        }
    }

    /// Gives up pages that nobody had in time; those that apply needs are complained about. What
    /// all other members have said not to have is lost; as long as one was not heard, the client may
    /// come again.
    fn give_up_overdue(&mut self, fx: &mut Effects) {
        let now_us = self.now_us;
        let mut given_up = Vec::new();
        let mut is_state_wanted = false;
        let own = self.config.member_id;
        let members = self.raft.configuration().members();
        let others: Vec<u64> = members.map(|id| id.0).filter(|id| *id != own).collect();
        for (first, broken) in &mut self.page_repair.broken {
            let is_written = self.page_repair.writing.contains(first);
            if is_written || now_us < broken.complain_us {
                continue;
            }
            broken.complain_us = now_us + COMPLAIN_US;
            let message = match broken.need {
                Need::Read => {
                    "a broken page was found on no other member: what needs it is refused"
                }
                Need::Apply => "no entry is applied: a broken page was found on no other member",
            };
            let fields = vec![
                ("page", first.to_string()),
                ("members-without", broken.without.len().to_string()),
            ];
            let message = message.to_string();
            fx.push(Effect::Log { level: LogLevel::Warn, message, fields });
            if broken.need == Need::Read {
                let is_lost = others.iter().all(|member| broken.denied.contains(member));
                let why = if is_lost { Unavailable::Corrupt } else { Unavailable::TimedOut };
                given_up.push((*first, why));
            } else {
                is_state_wanted = true;
            }
        }
        if is_state_wanted {
            self.want_state_of_others();
        }
        let known = &mut self.page_repair.given_up;
        known.retain(|_, known| now_us < known.until_us);
        for (first, why) in given_up {
            self.page_repair.broken.remove(&first);
            if self.page_repair.given_up.len() < GIVEN_UP_MAX {
                let until_us = now_us + GIVEN_UP_US;
                self.page_repair.given_up.insert(first, GivenUp { until_us, why });
            }
            self.refuse_reads_of(first, why);
            self.refuse_looks_at(first, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 7;

    /// Page 7 is broken, member 1 was asked first and member 2 is asked now; what belongs there.
    fn asked_twice() -> (PageRepair, Bytes) {
        let bytes = Bytes::from(vec![3; PAGE_SIZE_BYTES]);
        let expected = checksum(&bytes);
        let mut repair = PageRepair::default();
        let corruption = Corruption { page: PageNumber(PAGE), count: 1, expected, found: None };
        assert!(repair.add(&corruption, Need::Read, 0));
        let asked = Asked { member: 2, sequence: 1, at_us: RETRY_US };
        repair.broken.get_mut(&PAGE).unwrap().asked = Some(asked);
        (repair, bytes)
    }

    #[test]
    fn an_answer_is_as_good_after_the_next_member_was_asked() {
        let (mut repair, bytes) = asked_twice();
        let run = |bytes: Option<Bytes>| PageRun { first: PageNumber(PAGE), bytes };
        let altered = Bytes::from(vec![4; PAGE_SIZE_BYTES]);
        repair.on_answer(1, 0, &[run(Some(altered))]);
        repair.on_answer(1, 0, &[run(None)]);
        let broken = &repair.broken[&PAGE];
        assert!(broken.found.is_none() && broken.without.is_empty() && broken.asked.is_some());
        repair.on_answer(1, 0, &[run(Some(bytes.clone()))]);
        assert_eq!(repair.broken[&PAGE].found, Some((1, bytes)));
        repair.on_answer(2, 1, &[run(None)]);
        assert!(repair.broken[&PAGE].without.is_empty(), "it was found, whoever lacks it");
        assert_eq!(repair.take_found().len(), 1);
    }

    #[test]
    fn the_time_a_process_stood_still_is_no_waiting() {
        let (mut repair, _) = asked_twice();
        repair.pass_over_pause(RETRY_US);
        assert_eq!(repair.broken[&PAGE].complain_us, GIVE_UP_US, "it ran");
        repair.pass_over_pause(10 * GIVE_UP_US);
        let broken = &repair.broken[&PAGE];
        assert_eq!(broken.complain_us, 11 * GIVE_UP_US - 2 * RETRY_US);
        assert_eq!(broken.asked.unwrap().at_us, 10 * GIVE_UP_US - RETRY_US);
    }
}
