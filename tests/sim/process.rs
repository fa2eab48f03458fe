//! A member of the world: its disk and clock, and the process that runs on them while it does.

use std::collections::{BTreeMap, VecDeque};

use engine::wal::writer::{SegmentSizes, WalWrite};
use shard::config::{Config, InitialMember, Origin};
use shard::input::{ConnectionId, CoreId};
use shard::{Shard, StartError};

use super::clock::Clock;
use super::cores::{Core, Crossing};
use super::network::LinkId;
use super::plan::Plan;
use super::random::Random;
use super::rot::Written;
use super::storage::DiskImage;
use super::stray::{Astray, Stray};

/// Whether a member's process is started again when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Present,
    /// It is, under the id of a member whose directory was wiped: nobody may let it in.
    Impostor,
    /// Not any more: it was removed, or its directory is gone.
    Gone,
}

/// A member.
pub struct Member {
    /// What it is started with, besides the seed.
    pub config: Config,
    /// Whether it is started again.
    pub standing: Standing,
    /// It said that it was removed.
    pub is_removed: bool,
    /// It said that it leads, and nothing else since.
    pub is_leading: bool,
    /// What survives its processes.
    pub disk: DiskImage,
    /// Its clock.
    pub clock: Clock,
    /// The process, if one runs.
    pub process: Option<Process>,
    /// Processes so far.
    pub life: u64,
    /// When the last one began.
    pub started_us: u64,
    /// Nobody answers for it, not even to refuse.
    pub has_power: bool,
    /// Syncs take this much longer, until then.
    pub slow_disk: (u64, u64),
    /// Syncs of the WAL alone take this much longer, until then: it may have a disk of its own.
    pub slow_wal: (u64, u64),
    /// WAL writes that are durable, oldest first; the last ones only.
    pub wal_written: VecDeque<Written>,
    /// The disk has no room until then.
    pub full_until_us: u64,
    /// The next write or sync fails.
    pub is_disk_failing: bool,
    /// Which of the next writes of pages goes astray.
    pub astray: Astray,
    /// Writes of pages that are not synced yet, and will not be where they should.
    pub strays: Vec<Stray>,
    /// The power goes while the next WAL write is on its way.
    pub is_doomed: bool,
    /// The same, for the first write behind the next head of a segment.
    pub is_doomed_at_head: bool,
}

/// A running process.
pub struct Process {
    /// Its cores: the first one owns the group, the others serve connections.
    pub cores: Vec<Core>,
    /// What one core said to another, on its way.
    pub crossing: Crossing,
    /// Connections: the link, and which end of it is ours.
    pub links: BTreeMap<ConnectionId, (LinkId, usize)>,
    /// The next connection's number.
    pub next_connection: u64,
    /// WAL writes under way.
    pub wal_flight: VecDeque<WalWrite>,
    /// Page writes of the meta page under way.
    pub is_serving: bool,
    /// It stands still until then.
    pub paused_until_us: u64,
}

impl Member {
    /// Founder number `slot` of a plan, not started yet.
    pub fn new(plan: &Plan, slot: usize, random: &mut Random) -> Member {
        let members = (0..plan.members).map(founder).collect();
        Member::born(plan, 0, founder(slot), Origin::Founder { members }, random)
    }

    /// A member with an empty directory, not started yet.
    pub fn born(
        plan: &Plan,
        now_us: u64,
        own: InitialMember,
        origin: Origin,
        random: &mut Random,
    ) -> Member {
        let skew = plan.clock_skew;
        let rate = super::clock::RATE_ONE - skew + random.between(0, 2 * skew + 1);
        Member {
            config: config(plan, own, origin, random),
            standing: Standing::Present,
            is_removed: false,
            is_leading: false,
            disk: DiskImage::default(),
            clock: Clock::new(now_us, random.between(1, 1 << 40), rate),
            process: None,
            life: 0,
            started_us: now_us,
            has_power: true,
            slow_disk: (0, 0),
            slow_wal: (0, 0),
            wal_written: VecDeque::new(),
            full_until_us: 0,
            is_disk_failing: false,
            astray: Astray::None,
            strays: Vec::new(),
            is_doomed: false,
            is_doomed_at_head: false,
        }
    }

    /// Starts a process on what the disk holds.
    ///
    /// # Errors
    /// The shard refuses to start.
    pub fn start(&mut self, now_us: u64, seed: u64) -> Result<(), StartError> {
        assert!(self.process.is_none());
        self.life += 1;
        self.started_us = now_us;
        self.is_leading = false;
        self.has_power = true;
        self.is_disk_failing = false;
        self.strays.clear();
        self.is_doomed = false;
        self.is_doomed_at_head = false;
        self.disk.sync_all();
        self.disk.finish_install();
        let map = self.disk.map_pages();
        let slots = self.disk.meta_slots();
        let config = Config { seed, ..self.config.clone() };
        let local_us = self.clock.local_us(now_us);
        let owner = Shard::open(config.clone(), &self.disk, map, &slots, local_us)?;
        let fronts = (1..config.cores)
            .map(|core| Shard::without_groups(Config { core: CoreId(core), ..config.clone() }));
        self.process = Some(Process {
            cores: std::iter::once(owner).chain(fronts).map(Core::new).collect(),
            crossing: Crossing::default(),
            links: BTreeMap::new(),
            next_connection: 1,
            wal_flight: VecDeque::new(),
            is_serving: false,
            paused_until_us: 0,
        });
        Ok(())
    }

    /// What the replica of a running process knows.
    pub fn raft_status(&self) -> Option<raft::Status> {
        self.process.as_ref()?.cores[0].shard.raft_status()
    }

    /// The process, if it is still the one of that life.
    pub fn alive(&mut self, life: u64) -> Option<&mut Process> {
        if self.life != life {
            return None;
        }
        self.process.as_mut()
    }
}

/// Name and addresses of a member.
pub fn founder(slot: usize) -> InitialMember {
    InitialMember {
        id: 0x100 + slot as u64,
        name: format!("m{slot}"),
        peer_urls: vec![peer_url(slot)],
    }
}

/// The peer URL of a host.
pub fn peer_url(host: usize) -> String {
    format!("http://m{host}:2380")
}

/// The host that a URL as `peer_url` makes them names.
pub fn host_of(url: &str) -> Option<usize> {
    let host = url.strip_prefix("http://m")?;
    host.split(':').next()?.parse().ok()
}

/// Members differ in what is theirs alone: apply must not look at it.
fn config(plan: &Plan, own: InitialMember, origin: Origin, random: &mut Random) -> Config {
    let name = &own.name;
    let birth_id = random.bits();
    Config {
        cluster_id: 0xc0de,
        member_id: own.id,
        birth_id,
        origin,
        client_urls: vec![format!("http://{name}:2379")],
        binary_urls: vec![format!("http://{name}:2378")],
        name: own.name,
        peer_urls: own.peer_urls,
        learners_max: 1,
        quota_backend_bytes: *random.pick(&[0, -1, 1 << 30]),
        is_strict_reconfig: plan.is_strict_reconfig,
        heartbeat_interval_us: plan.heartbeat_interval_us,
        election_timeout_us: plan.election_timeout_us,
        watch_progress_interval_us: random.between(1_000_000, 600_000_000),
        interval_bytes_max: plan.interval_bytes_max + random.between(0, 4) * 4_096,
        interval_pages_max: plan.interval_pages_max + random.between(0, 4) as u32,
        log_tail_entries: plan.log_tail_entries,
        cores: 1 + (birth_id >> 32) as u16 % plan.cores_max,
        wal_segment_sizes: SegmentSizes {
            first_bytes: plan.wal_segment_size_bytes,
            other_bytes: plan.wal_segment_size_bytes,
        },
        ..super::member::config()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lead_back_to_their_hosts() {
        assert_eq!(host_of(&founder(2).peer_urls[0]), Some(2));
        assert_eq!(host_of("http://elsewhere:2380"), None);
    }
}
