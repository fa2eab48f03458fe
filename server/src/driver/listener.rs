//! Listeners: bound before anything else starts, opened when the shard serves, and the accepting.
//!
//! Invariants: a client can connect only after `Effect::Serve`; when files run out accepting pauses
//! for a while instead of spinning; which core serves a connection is decided by shard::placement.

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
    is_open: bool,
    /// Accepting goes on at this time: the process ran out of files.
    paused_until_us: Option<u64>,
}

impl Acceptor {
    /// With the doors closed.
    pub fn new(listeners: Vec<Listener>, cores: u16) -> Acceptor {
        let placement = Placement::new(cores);
        Acceptor { listeners, placement, is_open: false, paused_until_us: None }
    }

    /// Opens the doors.
    pub fn open(&mut self, epoll: &OwnedFd) -> io::Result<()> {
        for listener in &self.listeners {
            listener.socket.listen(BACKLOG)?;
        }
        self.is_open = true;
        self.watch(epoll)
    }

    /// Closes the doors for good.
    pub fn close(&mut self) {
        self.listeners.clear();
        self.is_open = false;
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
                self.watch(epoll)
            }
            _ => Ok(()),
        }
    }

    fn watch(&self, epoll: &OwnedFd) -> io::Result<()> {
        for (slot, listener) in self.listeners.iter().enumerate() {
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
            let arrival = Arrival { socket, door: listener.door };
            let core = self.placement.place();
            if core == here {
                arrivals.push(arrival);
            } else if let Err(arrival) = mesh.place(core, arrival) {
                self.placement.release(core);
                arrivals.push(arrival);
            }
        }
        arrivals
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

/// Keys of listeners in the event loop begin here; numbers of connections are below.
pub const KEY_FIRST: u64 = 1 << 63;
const BACKLOG: i32 = 1024;
const ACCEPTS_PER_STEP_MAX: usize = 64;
const ACCEPT_PAUSE_US: u64 = 1_000_000;
