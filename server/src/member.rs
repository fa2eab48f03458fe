//! One member's life: directory, listeners, cores, signals, end.
//!
//! Invariants: nothing listens, and nothing but an empty and locked data directory is made, before
//! every check has passed; the process ends with the first fault of any core; after a signal it ends
//! within five seconds, with the signal's own exit status, or 0 as process 1 of a container.
//! Source: runtime.md, sections on cores and on standing in for etcd.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use engine::wal::writer::SegmentSizes;
use shard::{
    Shard,
    config::{Config, Origin},
    effect::{Effects, LogLevel},
    input::{CoreId, Door, Input},
    limits::LOG_TAIL_ENTRIES,
    method_labels,
    metrics::{Identity as MetricsIdentity, render},
    pending_install,
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    bootstrap,
    config::{IoDriver, Settings, member_id},
    data_directory::{DataDirectory, draw_random},
    driver::{
        CoreParts, Program, RenderMetrics,
        clock::Clock,
        listener::{Acceptor, ListenOptions, Listener},
        mesh::Mesh,
        page_file::{self, PageFileMap},
        portable,
        space_reserve::SpaceReserve,
        uring,
        waker::Waker,
        wal_faults::WalFaults,
        wal_files::{Access, WalDirectory},
    },
    error::{Fault, StartError},
    identity::Birth,
    log::{Logger, quoted, quoted_list},
    machine::{self, Cpus},
};

/// Version of etcd whose API is served.
pub const ETCD_VERSION: &str = "3.7.0";

/// How a member ended.
#[derive(Debug)]
pub enum Ended {
    /// By this signal, cleanly or because its time was up.
    Signal(i32),
    /// It was removed from its cluster.
    Removed,
    /// By a fault of a core.
    Fault(Fault),
    /// It could not start.
    Start(StartError),
}

/// What happens to the process as a whole.
enum News {
    CoreEnded(Result<(), CoreError>),
    Signal(i32),
}

/// Why a core ended before its time.
enum CoreError {
    Start(StartError),
    Fault(Fault),
}

/// The shard as the driver sees it.
struct ShardProgram {
    shard: Shard<PageFileMap>,
    clock: Clock,
}

impl Program for ShardProgram {
    fn step(&mut self, now_us: u64, inputs: &mut Vec<Input>, effects: &mut Effects) {
        self.shard.step(now_us, inputs, effects);
        self.shard.observe_step_us(self.clock.now_us() - now_us);
    }

    fn cells(&self) -> &[u64] {
        self.shard.metrics().cells()
    }
}

/// Runs a member until it ends.
pub fn run(settings: &Settings, logger: &Logger) -> Ended {
    match Member::start(settings, logger) {
        Ok(member) => member.wait(),
        Err(error) => Ended::Start(error),
    }
}

struct Member {
    mesh: Arc<Mesh>,
    news: Receiver<News>,
    cores: u16,
    logger: Logger,
    /// Held until the cores have ended.
    _directory: DataDirectory,
}

/// What all cores are started with.
struct Plan {
    config: Config,
    clock: Clock,
    mesh: Arc<Mesh>,
    wal_path: PathBuf,
    page_path: PathBuf,
    space_reserve_bytes: Option<u64>,
    is_uring: bool,
    wal_faults: Option<WalFaults>,
    render_metrics: Arc<RenderMetrics>,
    logger: Logger,
}

impl Member {
    fn start(settings: &Settings, logger: &Logger) -> Result<Member, StartError> {
        for warning in &settings.warnings {
            logger.warn(warning, &[]);
        }
        let files = machine::raise_file_limit();
        let cpus = Cpus::of_this_process().map_err(system("read the affinity mask"))?;
        let cores = cpus.cores(settings.cores);
        let directory = open_directory(settings, cores, logger)?;
        let origin = directory.identity.origin(&settings.peer_urls);
        let listeners = bind_all(settings, &origin, logger)?;
        let settings = &as_bound(settings, &listeners);
        let wal_path = directory.wal_directory(0).map_err(StartError::Directory)?;
        let is_uring = choose_driver(settings.io_driver, &wal_path, logger)?;
        log_start(settings, &directory, &cpus, cores, is_uring, files, logger);
        let wakers: io::Result<Vec<_>> = (0..cores).map(|_| Waker::new()).collect();
        let mesh = Mesh::new(wakers.map_err(system("make an eventfd"))?);
        let (tell, news) = channel();
        watch_signals(tell.clone(), Arc::clone(&mesh), logger.clone())?;
        let plan = Arc::new(Plan {
            config: shard_config(settings, &directory, origin, cores)?,
            clock: Clock::start(),
            mesh: Arc::clone(&mesh),
            wal_path,
            page_path: directory.page_file(),
            space_reserve_bytes: settings.space_reserve_bytes,
            is_uring,
            wal_faults: settings.wal_faults.clone(),
            render_metrics: metrics_renderer(directory.identity.member_id),
            logger: logger.clone(),
        });
        let mut acceptor = Some(Acceptor::new(listeners, cores));
        for core in 0..cores {
            let cpu = settings.is_pinned.then(|| cpus.placement(core, directory.path()));
            let acceptor = if core == 0 { acceptor.take() } else { None };
            let (plan, tell) = (Arc::clone(&plan), tell.clone());
            std::thread::Builder::new()
                .name(format!("core-{core}"))
                .spawn(move || {
                    let ended = run_core(&plan, CoreId(core), cpu, acceptor);
                    // When main is gone the process is ending anyway.
                    let _ = tell.send(News::CoreEnded(ended));
                })
                .map_err(system("start a thread"))?;
        }
        Ok(Member { mesh, news, cores, logger: logger.clone(), _directory: directory })
    }

    fn wait(self) -> Ended {
        let mut running = self.cores;
        let mut signal: Option<(i32, Instant)> = None;
        loop {
            let news = match signal {
                None => self.news.recv().ok(),
                Some((_, until)) => {
                    let left = until.saturating_duration_since(Instant::now());
                    self.news.recv_timeout(left).ok()
                }
            };
            match (news, signal) {
                (Some(News::Signal(number)), None) => {
                    self.mesh.request_shutdown();
                    signal = Some((number, Instant::now() + STOP_WAIT_MAX));
                }
                (Some(News::Signal(number)), Some(_)) => return Ended::Signal(number),
                (Some(News::CoreEnded(Ok(()))), _) => {
                    running -= 1;
                    match (running, signal) {
                        (0, Some((number, _))) => return Ended::Signal(number),
                        (0, None) => return Ended::Removed,
                        _ => {}
                    }
                }
                (Some(News::CoreEnded(Err(CoreError::Fault(fault)))), _) => {
                    return Ended::Fault(fault);
                }
                (Some(News::CoreEnded(Err(CoreError::Start(error)))), _) => {
                    return Ended::Start(error);
                }
                (None, Some((number, _))) => {
                    self.logger.warn("the stop took longer than five seconds", &[]);
                    return Ended::Signal(number);
                }
                (None, None) => return Ended::Fault(Fault::ThreadEnded("signal")),
            }
        }
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::System { what, error }
}

/// Opens the data directory, with the birth of the member where it is new.
fn open_directory(
    settings: &Settings,
    cores: u16,
    logger: &Logger,
) -> Result<DataDirectory, StartError> {
    let wal_base = settings.wal_directory.as_deref();
    let mut directory = DataDirectory::open(&settings.data_directory, wal_base, || {
        bootstrap::birth(settings, cores, logger)
    })?;
    if settings.is_force_new_cluster && !directory.is_new {
        directory.raise_epoch()?;
        let fields = [("epoch", directory.identity.epoch.to_string())];
        logger.warn("forcing a new cluster: all other members are left behind", &fields);
    }
    Ok(directory)
}

/// Binds every listener. A port that nobody asked for by name may be another member's.
fn bind_all(
    settings: &Settings,
    origin: &Origin,
    logger: &Logger,
) -> Result<Vec<Listener>, StartError> {
    let options = ListenOptions { reuse_port: settings.reuse_port };
    let is_alone = matches!(origin, Origin::Founder { members } if members.len() == 1);
    let doors = [
        (&settings.listen_peer, Door::Peer, settings.is_peer_stated || !is_alone),
        (&settings.listen_client, Door::Client, true),
        (&settings.listen_metrics, Door::Metrics, true),
        (&settings.listen_binary, Door::Binary, settings.is_binary_stated),
    ];
    let mut listeners = Vec::new();
    for (addresses, door, is_needed) in doors {
        for address in addresses {
            match Listener::bind(address, door, options) {
                Ok(listener) => listeners.push(listener),
                Err(error) if !is_needed => {
                    let fields = [
                        ("address", quoted(&address.to_string())),
                        ("error", quoted(&error.to_string())),
                    ];
                    logger.warn(not_served(door), &fields);
                }
                Err(error) => {
                    return Err(StartError::Listen { address: address.to_string(), error });
                }
            }
        }
    }
    Ok(listeners)
}

/// The settings without what is not served after all: a port that was taken is another member's,
/// and telling it would send clients there.
fn as_bound(settings: &Settings, listeners: &[Listener]) -> Settings {
    let mut settings = settings.clone();
    if !listeners.iter().any(|listener| listener.door() == Door::Binary) {
        settings.binary_urls.clear();
    }
    settings
}

fn not_served(door: Door) -> &'static str {
    match door {
        Door::Peer => "no member can join this one: its peer port is taken",
        _ => "the binary protocol is not served: its port is taken",
    }
}

/// Whether to run on io_uring: tried first, exactly as it will be used.
fn choose_driver(
    asked: IoDriver,
    wal_path: &std::path::Path,
    logger: &Logger,
) -> Result<bool, StartError> {
    if asked == IoDriver::Portable {
        return Ok(false);
    }
    match uring::probe::probe(wal_path) {
        Ok(()) => Ok(true),
        Err(refusal) if asked == IoDriver::Uring => Err(StartError::Driver(refusal.to_string())),
        Err(refusal) => {
            let fields = [
                ("refused", quoted(&refusal.to_string())),
                ("cost", quoted("a commit takes about a quarter longer and more CPU")),
                ("remedy", quoted(refusal.remedy())),
            ];
            logger.warn("io_uring cannot be used: the portable driver runs instead", &fields);
            Ok(false)
        }
    }
}

fn log_start(
    settings: &Settings,
    directory: &DataDirectory,
    cpus: &Cpus,
    cores: u16,
    is_uring: bool,
    files: u64,
    logger: &Logger,
) {
    let identity = &directory.identity;
    let of_configuration = member_id(&settings.peer_urls, &settings.cluster_token);
    // One that joined was given its id.
    let is_joiner = matches!(identity.birth, Some(Birth::Joiner(_)));
    if !is_joiner && identity.member_id != of_configuration {
        logger.warn(
            "the ids of the data directory count, not those of the flags",
            &[
                ("member-id", quoted(&format!("{:x}", identity.member_id))),
                ("of-flags", quoted(&format!("{of_configuration:x}"))),
            ],
        );
    }
    let urls = |list: &[crate::config::url::ListenAddress]| {
        quoted_list(&list.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let fields = [
        ("corestone-version", quoted(env!("CARGO_PKG_VERSION"))),
        ("etcd-version", quoted(ETCD_VERSION)),
        ("name", quoted(&settings.name)),
        ("data-dir", quoted(&directory.path().display().to_string())),
        ("is-new", directory.is_new.to_string()),
        ("member-id", quoted(&format!("{:x}", identity.member_id))),
        ("initial-cluster", quoted(&born_among(&identity.origin(&settings.peer_urls)))),
        ("initial-advertise-peer-urls", quoted_list(&settings.peer_urls)),
        ("cluster-id", quoted(&format!("{:x}", identity.cluster_id))),
        ("listen-peer", urls(&settings.listen_peer)),
        ("listen-client", urls(&settings.listen_client)),
        ("listen-binary", urls(&settings.listen_binary)),
        ("advertise-client-urls", quoted_list(&settings.client_urls)),
        ("advertise-binary-urls", quoted_list(&settings.binary_urls)),
        ("io-driver", quoted(if is_uring { "uring" } else { "portable" })),
        ("cores", cores.to_string()),
        ("cpu-mask", cpus.mask.len().to_string()),
        ("cpu-quota", cpus.quota.map_or("null".to_owned(), |quota| quota.to_string())),
        ("pinned", settings.is_pinned.to_string()),
        ("files-max", files.to_string()),
    ];
    logger.info("starting corestone", &fields);
}

/// The members of an origin, as --initial-cluster names them.
fn born_among(origin: &Origin) -> String {
    let (Origin::Founder { members } | Origin::Joiner { members }) = origin;
    let pairs = members.iter().flat_map(|member| {
        member.peer_urls.iter().map(move |url| format!("{}={url}", member.name))
    });
    pairs.collect::<Vec<_>>().join(",")
}

fn watch_signals(tell: Sender<News>, mesh: Arc<Mesh>, logger: Logger) -> Result<(), StartError> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(system("watch for signals"))?;
    let watch = move || {
        for number in signals.forever() {
            let name = if number == SIGTERM { "terminated" } else { "interrupt" };
            logger.info("received signal; shutting down", &[("signal", quoted(name))]);
            mesh.request_shutdown();
            if tell.send(News::Signal(number)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(watch)
        .map_err(system("start a thread"))?;
    Ok(())
}

fn shard_config(
    settings: &Settings,
    directory: &DataDirectory,
    origin: Origin,
    cores: u16,
) -> Result<Config, StartError> {
    let identity = &directory.identity;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let random = draw_random().map_err(system("read /dev/urandom"))?;
    let memory = machine::memory_limit_bytes();
    Ok(Config {
        core: CoreId(0),
        cores,
        cluster_id: identity.cluster_id,
        member_id: identity.member_id,
        birth_id: identity.birth_id,
        epoch: identity.epoch,
        origin,
        name: settings.name.clone(),
        peer_urls: settings.peer_urls.clone(),
        client_urls: settings.client_urls.clone(),
        binary_urls: settings.binary_urls.clone(),
        learners_max: settings.learners_max,
        seed: random ^ since.as_secs(),
        max_txn_ops: settings.max_txn_ops,
        max_request_bytes: settings.max_request_bytes,
        quota_backend_bytes: settings.quota_backend_bytes,
        auto_compaction: settings.auto_compaction,
        heartbeat_interval_us: settings.heartbeat_interval_ms * 1000,
        election_timeout_us: settings.election_timeout_ms * 1000,
        is_strict_reconfig: settings.is_strict_reconfig,
        is_pre_vote: settings.is_pre_vote,
        // There is nothing to be left behind by a member that was born just now.
        is_force_new_cluster: settings.is_force_new_cluster && !directory.is_new,
        is_log_retained: settings.is_log_retained,
        watch_progress_interval_us: settings.watch_progress_interval_us,
        answer_budget_bytes: memory / ANSWER_BUDGET_SHARE / usize::from(cores),
        server_version: ETCD_VERSION.to_owned(),
        interval_bytes_max: INTERVAL_BYTES_MAX,
        interval_pages_max: INTERVAL_PAGES_MAX,
        log_tail_entries: LOG_TAIL_ENTRIES,
        wal_segment_sizes: SegmentSizes::default(),
    })
}

fn metrics_renderer(member_id: u64) -> Arc<RenderMetrics> {
    let methods = method_labels();
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    Arc::new(move |cores| {
        // A core that has not published yet has nothing to add.
        let cores: Vec<_> = cores.iter().filter(|cells| !cells.is_empty()).cloned().collect();
        let process = machine::process_figures(began);
        let identity = MetricsIdentity {
            member_id,
            server_version: ETCD_VERSION,
            methods: &methods,
            process: &process,
        };
        render(&cores, &identity).into_bytes()
    })
}

/// Runs one core on this thread until it ends.
fn run_core(
    plan: &Plan,
    core: CoreId,
    cpu: Option<usize>,
    acceptor: Option<Acceptor>,
) -> Result<(), CoreError> {
    let config = Config { core, ..plan.config.clone() };
    let is_owner = core == CoreId(0);
    let logger = plan.logger.clone();
    let mut parts = CoreParts {
        core,
        clock: plan.clock,
        mesh: Arc::clone(&plan.mesh),
        acceptor,
        segments: None,
        pages: None,
        space_reserve: None,
        wal_faults: plan.wal_faults.clone(),
        render_metrics: Arc::clone(&plan.render_metrics),
        on_serve: Box::new(move || {
            if is_owner {
                say_serving(&logger);
            }
        }),
        logger: plan.logger.clone(),
    };
    let shard = if is_owner {
        open_owner(plan, config, &mut parts).map_err(CoreError::Start)?
    } else {
        Shard::without_groups(config)
    };
    let program = ShardProgram { shard, clock: plan.clock };
    let ended = if plan.is_uring {
        uring::run(program, parts, cpu)
    } else {
        portable::run(program, parts, cpu)
    };
    ended.map_err(CoreError::Fault)
}

/// Recovers the shard that owns the default keyspace from its files.
fn open_owner(
    plan: &Plan,
    config: Config,
    parts: &mut CoreParts,
) -> Result<Shard<PageFileMap>, StartError> {
    let wal = WalDirectory::open(&plan.wal_path).map_err(system("open the WAL directory"))?;
    if wal.access() == Access::Buffered {
        plan.logger.warn(
            "the file system refuses direct I/O: the WAL goes through the page cache",
            &[("wal-dir", quoted(&plan.wal_path.display().to_string()))],
        );
    }
    if page_file::has_side_file(&plan.page_path) {
        let install = pending_install(&wal);
        let is_finished = page_file::finish_install(&plan.page_path, install)
            .map_err(|fault| StartError::Shard(fault.to_string()))?;
        if is_finished {
            let message = "finished the install of a state that an earlier start had begun";
            plan.logger.log(LogLevel::Info, message, &[]);
        }
    }
    let reserve = Some(open_reserve(plan).map_err(system("make the space reserve"))?);
    let (map, worker, meta) =
        page_file::open(&plan.page_path, reserve.clone()).map_err(system("open the page file"))?;
    let is_one_disk = device_of(&plan.wal_path).ok() == device_of(&plan.page_path).ok();
    parts.segments = Some(wal.worker(reserve.clone().filter(|_| is_one_disk)));
    parts.space_reserve = reserve;
    parts.pages = Some(worker);
    Shard::open(config, &wal, map, &meta, plan.clock.now_us())
        .map_err(|error| StartError::Shard(error.to_string()))
}

/// Space held back in the directory of the page file.
fn open_reserve(plan: &Plan) -> io::Result<Arc<SpaceReserve>> {
    let directory = plan.page_path.parent().expect("the page file lies in the data directory");
    let reserve = SpaceReserve::open(directory, plan.space_reserve_bytes)?;
    if reserve.is_short() {
        plan.logger.warn(
            "the disk of the data directory is nearly full: no room for the space reserve",
            &[("data-dir", quoted(&directory.display().to_string()))],
        );
    }
    Ok(Arc::new(reserve))
}

fn device_of(path: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(path)?.dev())
}

fn say_serving(logger: &Logger) {
    logger.log(LogLevel::Info, "ready to serve client requests", &[]);
    if let Err(error) = machine::notify_ready() {
        let fields = [("error", quoted(&error.to_string()))];
        logger.warn("the service manager could not be told", &fields);
    }
}

const STOP_WAIT_MAX: Duration = Duration::from_secs(5);
/// Range answers under way may take this share of the memory: one eighth.
const ANSWER_BUDGET_SHARE: usize = 8;
/// Bytes of log after which a checkpoint interval ends.
const INTERVAL_BYTES_MAX: u64 = 64 << 20;
/// Dirty pages after which one ends. A page that is changed in every interval is written in every
/// interval, so longer intervals cost less; sealing this many takes some 20 ms, once in that many.
const INTERVAL_PAGES_MAX: u32 = 24 * 1024;
