//! Listeners: bound before anything else starts, and the accepting.
//!
//! Invariants: a client can connect only after `Effect::Serve`, a peer from the start, because a
//! member serves only when it has heard of its peers; peers' connections are core 0's; when files
//! run out accepting pauses for a while instead of spinning; which core serves a client's
//! connection is decided by shard::placement.

use std::{io, net::SocketAddr, os::fd::OwnedFd, os::unix::fs::FileTypeExt, sync::Arc};

use rustix::event::epoll::{self, EventData, EventFlags};
use shard::{
    input::{CoreId, Door},
    placement::Placement,
};
use socket2::{Domain, SockAddr, Socket, Type};

use super::mesh::{Arrival, Mesh};
use crate::{
    config::url::ListenAddress,
    log::{Logger, quoted},
};

/// A bound socket that does not listen yet.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    door: Door,
    is_tcp: bool,
}

/// Options of all listeners.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListenOptions {
    /// SO_REUSEPORT.
    pub reuse_port: bool,
}

impl Listener {
    /// Binds.
    pub fn bind(
        address: &ListenAddress,
        door: Door,
        options: ListenOptions,
    ) -> io::Result<Listener> {
        let (domain, target) = match address {
            ListenAddress::Tcp(address) => (Domain::for_address(*address), (*address).into()),
            ListenAddress::Unix(path) => {
                // A socket that a dead process left behind is in the way; anything else stays.
                if std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
                    std::fs::remove_file(path)?;
                }
                (Domain::UNIX, SockAddr::unix(path)?)
            }
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let is_tcp = domain != Domain::UNIX;
        if is_tcp {
            // As Go does: a restart must not wait for connections of the last run to time out.
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(options.reuse_port)?;
            if domain == Domain::IPV6 {
                socket.set_only_v6(false)?;
            }
        }
        socket.bind(&target)?;
        Ok(Listener { socket, door, is_tcp })
    }

    /// Whose it is.
    pub fn door(&self) -> Door {
        self.door
    }

    /// Where it is bound, also when port 0 was asked for.
    pub fn local_address(&self) -> io::Result<Option<SocketAddr>> {
        Ok(self.socket.local_addr()?.as_socket())
    }
}

/// Accepts on one core for all.
#[derive(Debug)]
pub struct Acceptor {
    listeners: Vec<Listener>,
    placement: Placement,
    is_open_to_peers: bool,
    is_open_to_clients: bool,
    /// Accepting goes on at this time: the process ran out of files.
    paused_until_us: Option<u64>,
}

impl Acceptor {
    /// With the doors closed.
    pub fn new(listeners: Vec<Listener>, cores: u16) -> Acceptor {
        let placement = Placement::new(cores);
        Acceptor {
            listeners,
            placement,
            is_open_to_peers: false,
            is_open_to_clients: false,
            paused_until_us: None,
        }
    }

    /// Opens the peers' doors.
    pub fn open_to_peers(&mut self, epoll: &OwnedFd) -> io::Result<()> {
        assert!(!self.is_open_to_peers);
        self.is_open_to_peers = true;
        self.open(epoll, |door| door == Door::Peer)
    }

    /// Opens all the others.
    pub fn open_to_clients(&mut self, epoll: &OwnedFd) -> io::Result<()> {
        assert!(!self.is_open_to_clients, "a program serves once");
        self.is_open_to_clients = true;
        self.open(epoll, |door| door != Door::Peer)
    }

    fn open(&self, epoll: &OwnedFd, is_meant: impl Fn(Door) -> bool) -> io::Result<()> {
        for listener in self.listeners.iter().filter(|listener| is_meant(listener.door)) {
            listener.socket.listen(BACKLOG)?;
        }
        // While accepting is paused none is watched; all that are open will be.
        if self.paused_until_us.is_some() {
            return Ok(());
        }
        self.watch(epoll, is_meant)
    }

    /// Closes the doors for good.
    pub fn close(&mut self) {
        self.listeners.clear();
        self.paused_until_us = None;
    }

    /// When accepting goes on, if it is paused.
    pub fn deadline_us(&self) -> Option<u64> {
        self.paused_until_us
    }

    /// Goes on accepting when the time has come.
    pub fn on_deadline(&mut self, epoll: &OwnedFd, now_us: u64) -> io::Result<()> {
        match self.paused_until_us {
            Some(at_us) if at_us <= now_us => {
                self.paused_until_us = None;
                let (to_peers, to_clients) = (self.is_open_to_peers, self.is_open_to_clients);
                self.watch(epoll, |door| if door == Door::Peer { to_peers } else { to_clients })
            }
            _ => Ok(()),
        }
    }

    fn watch(&self, epoll: &OwnedFd, is_meant: impl Fn(Door) -> bool) -> io::Result<()> {
        let listeners = self.listeners.iter().enumerate();
        for (slot, listener) in listeners.filter(|(_, listener)| is_meant(listener.door)) {
            let data = EventData::new_u64(KEY_FIRST + slot as u64);
            epoll::add(epoll, &listener.socket, data, EventFlags::IN)?;
        }
        Ok(())
    }

    /// Accepts what waits at the listener of `key`; the connections for this core come back.
    pub fn accept(
        &mut self,
        epoll: &OwnedFd,
        key: u64,
        here: CoreId,
        mesh: &Arc<Mesh>,
        now_us: u64,
        logger: &Logger,
    ) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        let slot = usize::try_from(key - KEY_FIRST).expect("a key that was given out");
        self.count_departures(mesh);
        for _ in 0..ACCEPTS_PER_STEP_MAX {
            let Some(listener) = self.listeners.get(slot) else { break };
            let socket = match listener.socket.accept() {
                Ok((socket, _)) => socket,
                Err(error) if is_out_of_files(&error) => {
                    self.pause(epoll, now_us, &error, logger);
                    break;
                }
                // The one who connected may be gone already: the next one is not.
                Err(error) if is_of_one_connection(&error) => continue,
                Err(_) => break,
            };
            if socket.set_nonblocking(true).is_err() {
                continue;
            }
            if listener.is_tcp {
                // Replies leave at once; a connection that cannot be set so is gone.
                if socket.set_tcp_nodelay(true).is_err() {
                    continue;
                }
            }
            arrivals.extend(self.place(socket, here, mesh, slot));
        }
        arrivals
    }

    /// Sends a connection to its core; comes back when that is this one.
    fn place(
        &mut self,
        socket: Socket,
        here: CoreId,
        mesh: &Arc<Mesh>,
        slot: usize,
    ) -> Option<Arrival> {
        let door = self.listeners[slot].door;
        if door == Door::Peer {
            assert!(here == PEERS_CORE, "the core that accepts is that of the peers");
            return Some(Arrival { socket, door, is_placed: false });
        }
        let core = self.placement.place();
        let arrival = Arrival { socket, door, is_placed: true };
        if core == here {
            return Some(arrival);
        }
        let arrival = mesh.place(core, arrival).err()?;
        // It stays here uncounted: the other core has a thousand to take in first.
        self.placement.release(core);
        Some(Arrival { is_placed: false, ..arrival })
    }

    fn count_departures(&mut self, mesh: &Arc<Mesh>) {
        for core in (0..mesh.core_count()).map(CoreId) {
            for _ in 0..mesh.take_departures(core) {
                self.placement.release(core);
            }
        }
    }

    fn pause(&mut self, epoll: &OwnedFd, now_us: u64, error: &io::Error, logger: &Logger) {
        let fields =
            [("error", quoted(&error.to_string())), ("pause_us", ACCEPT_PAUSE_US.to_string())];
        logger.warn("accepting pauses: the process has no file descriptors left", &fields);
        for listener in &self.listeners {
            // Not watched is what is wanted.
            let _ = epoll::delete(epoll, &listener.socket);
        }
        self.paused_until_us = Some(now_us + ACCEPT_PAUSE_US);
    }
}

fn is_out_of_files(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    matches!(code, Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

fn is_of_one_connection(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    matches!(code, Some(libc::ECONNABORTED | libc::EPROTO | libc::EPERM | libc::EINTR))
}

/// The core of peers' connections.
const PEERS_CORE: CoreId = CoreId(0);
/// Keys of listeners in the event loop begin here; numbers of connections are below.
pub const KEY_FIRST: u64 = 1 << 63;
const BACKLOG: i32 = 1024;
const ACCEPTS_PER_STEP_MAX: usize = 64;
const ACCEPT_PAUSE_US: u64 = 1_000_000;
