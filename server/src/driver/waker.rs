//! How another thread wakes a core that waits: an eventfd, written only when the core sleeps.
//!
//! Invariant: a producer first puts its item into a queue, then calls `wake`; a core first calls
//! `prepare_sleep`, then looks into its queues once more, and only then sleeps. With sequentially
//! consistent accesses on both sides one of the two sees the other, so no item is left behind in
//! the queue of a sleeping core.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes one core. Clones wake the same one.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    event: OwnedFd,
    is_asleep: AtomicBool,
}

impl Waker {
    /// A new one, awake.
    pub fn new() -> io::Result<Waker> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let shared = Shared { event, is_asleep: AtomicBool::new(false) };
        Ok(Waker { shared: Arc::new(shared) })
    }

    /// Wakes the core if it sleeps or is about to. To be called after the item is in its queue.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.shared.is_asleep.swap(false, Ordering::SeqCst) {
            #[expect(clippy::host_endian_bytes, reason = "an eventfd counts in the host's order")]
            let one = 1_u64.to_ne_bytes();
            // Only a full counter could refuse, and then the core is woken anyway.
            let _ = rustix::io::write(&self.shared.event, &one);
        }
    }

    /// Says that the core is about to sleep; its queues are to be looked into after this.
    pub fn prepare_sleep(&self) {
        self.shared.is_asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Says that the core runs.
    pub fn awake(&self) {
        self.shared.is_asleep.store(false, Ordering::SeqCst);
    }

    /// Takes the wake-ups so far, so that the eventfd is not ready any more.
    pub fn drain(&self) {
        let mut count = [0; 8];
        // Empty is as good.
        let _ = rustix::io::read(&self.shared.event, &mut count);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::queue::ArrayQueue;
    use rustix::event::{PollFd, PollFlags, poll};

    /// A million hand-overs, each of which may meet the receiver on its way to sleep. A lost
    /// wake-up would leave the receiver asleep with an item in its queue, for ever.
    #[test]
    fn no_wake_up_is_lost_in_a_million() {
        const COUNT: u64 = 1_000_000;
        let waker = Waker::new().unwrap();
        let queue = Arc::new(ArrayQueue::new(1));
        let (sender_waker, sender_queue) = (waker.clone(), Arc::clone(&queue));
        let sender = std::thread::spawn(move || {
            for n in 0..COUNT {
                let mut item = n;
                while let Err(back) = sender_queue.push(item) {
                    item = back;
                    std::hint::spin_loop();
                }
                sender_waker.wake();
            }
        });
        let mut expected = 0;
        while expected < COUNT {
            if let Some(n) = queue.pop() {
                assert_eq!(n, expected);
                expected += 1;
                continue;
            }
            waker.prepare_sleep();
            if queue.is_empty() {
                let mut ready = [PollFd::new(&waker, PollFlags::IN)];
                let limit = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
                assert_eq!(poll(&mut ready, Some(&limit)), Ok(1), "lost at {expected}");
                waker.drain();
            }
            waker.awake();
        }
        sender.join().unwrap();
    }
}
