//! Which core a new connection goes to.
//!
//! Invariant: the owner of the default keyspace takes the first connections, so that one idle
//! client sees the same latency however many cores there are; later ones go to the core with the
//! least load, and each placement counts at once. Source: runtime laws, Cores 2: a request that
//! must wake a sleeping core pays the wake-up twice.

use crate::input::CoreId;

/// Connections that the owner of the default keyspace takes before others get any.
pub const OWNER_CONNECTIONS_FIRST: u32 = 8;

/// Load of the cores as the acceptor knows it.
#[derive(Clone, Debug)]
pub struct Placement {
    cores: Vec<CoreLoad>,
}

#[derive(Clone, Copy, Debug, Default)]
struct CoreLoad {
    connections: u32,
    /// Busy share of the last second, in permille.
    busy_permille: u32,
}

impl Placement {
    /// For this many cores, at least one; core 0 owns the default keyspace.
    pub fn new(cores: u16) -> Placement {
        assert!(1 <= cores);
        Placement { cores: vec![CoreLoad::default(); usize::from(cores)] }
    }

    /// Chooses a core for a new connection and counts it there.
    pub fn place(&mut self) -> CoreId {
        let chosen = if self.cores[0].connections < OWNER_CONNECTIONS_FIRST {
            0
        } else {
            let load = |slot: &usize| {
                let core = &self.cores[*slot];
                // Busy shares are compared in tenths, so that noise does not override counts.
                (core.busy_permille / 100, core.connections, *slot)
            };
            (0..self.cores.len()).min_by_key(load).expect("there is at least one core")
        };
        self.cores[chosen].connections += 1;
        CoreId(u16::try_from(chosen).expect("as many cores as a u16 counts"))
    }

    /// A connection of that core is gone.
    pub fn release(&mut self, core: CoreId) {
        let load = &mut self.cores[usize::from(core.0)];
        assert!(1 <= load.connections);
        load.connections -= 1;
    }

    /// Tells the busy share of a core over the last second.
    pub fn observe_busy(&mut self, core: CoreId, permille: u32) {
        assert!(permille <= 1000);
        self.cores[usize::from(core.0)].busy_permille = permille;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_takes_the_first_connections() {
        let mut placement = Placement::new(3);
        for _ in 0..OWNER_CONNECTIONS_FIRST {
            assert_eq!(placement.place(), CoreId(0));
        }
        assert_eq!(placement.place(), CoreId(1));
        assert_eq!(placement.place(), CoreId(2));
        assert_eq!(placement.place(), CoreId(1));
        placement.release(CoreId(0));
        assert_eq!(placement.place(), CoreId(0));
    }

    #[test]
    fn a_busy_core_gets_no_more() {
        let mut placement = Placement::new(2);
        for _ in 0..OWNER_CONNECTIONS_FIRST {
            placement.place();
        }
        placement.observe_busy(CoreId(1), 900);
        assert_eq!(placement.place(), CoreId(0));
    }
}
