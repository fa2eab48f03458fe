//! A client that moves leadership around.
//!
//! Invariant: it asks one thing at a time, of one member at a time; whatever comes of it is fine.

use net::wire::{ClusterRequest, Message};

use super::process::founder;
use super::random::Random;
use super::session::{Client, Line, Phase, Scene, Wish, soon_us};
use super::trace::Level;

/// See the file's head.
#[derive(Debug)]
pub struct Admin {
    random: Random,
    /// Mean time between two moves.
    mean_us: u64,
    line: Line,
    next_us: u64,
    is_waiting: bool,
}

impl Admin {
    /// One that moves leadership every so often.
    pub fn new(random: Random, mean_us: u64) -> Admin {
        Admin { random, mean_us, line: Line::default(), next_us: mean_us, is_waiting: false }
    }

    fn draw_next(&mut self, now_us: u64) {
        self.is_waiting = false;
        self.next_us = now_us + self.random.between(self.mean_us / 2, self.mean_us * 3 / 2);
    }
}

impl Client for Admin {
    fn on_wake(&mut self, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        if Phase::Faults < scene.phase {
            return;
        }
        wishes.push(Wish::Wake(scene.now_us + WAKE_US));
        if scene.now_us < self.next_us {
            return;
        }
        if self.line.is_apart() {
            let member = scene.somebody(&mut self.random);
            self.line.connect(member, scene.now_us, wishes);
        } else if self.is_waiting || self.line.is_overdue(scene.now_us) {
            // The next one is asked elsewhere.
            self.line.hang_up(wishes);
            self.draw_next(scene.now_us);
        } else if self.line.is_open() {
            let target_id = founder(scene.somebody(&mut self.random)).id;
            let request = ClusterRequest::MoveLeader { target_id };
            scene.trace.say(Level::Faults, scene.now_us, || format!("asks for {request:?}"));
            self.line.speech().request(&request).expect("it is small");
            self.line.flush(wishes);
            self.draw_next(scene.now_us);
            self.is_waiting = true;
        }
    }

    fn on_connected(&mut self, number: u64, _scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        self.line.on_connected(number, wishes);
    }

    fn on_bytes(&mut self, bytes: &[u8], scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        let mut is_over = false;
        let is_right = self.line.feed(bytes, &mut |message| {
            is_over |= matches!(message, Message::GoAway { .. });
        });
        if !is_right || is_over {
            self.line.hang_up(wishes);
            self.draw_next(scene.now_us);
        }
    }

    fn on_broken(&mut self, scene: &mut Scene<'_>, wishes: &mut Vec<Wish>) {
        self.line.on_broken();
        wishes.push(Wish::Wake(soon_us(scene.now_us, &mut self.random)));
    }
}

/// It looks after itself this often.
const WAKE_US: u64 = 50_000;
