//! Recovery: follows the chain of frames through the segments and decides where it ends.
//!
//! Where a frame is not whole, what later frames say was synced decides: beyond the break, it is a
//! corrupt middle, which is reported as a gap and passed by; else it is a torn tail, and everything
//! from there on was never acknowledged. A valid frame behind the break proves nothing, because any
//! subset of unsynced sectors survives a power cut.
//! Each head says where the frame before it ended, so the heads, read from the newest to the
//! oldest, say which part of each segment counts: a tail that an earlier start cut off is never
//! entered, however whole it looks by now.
//! Source: storage.md, WAL rules 2, 3 and 5; replication.md, Damage.

use super::assembly::{Assembly, ChainEnd};
use super::frame::FrameHeader;
use super::position::{RunNumber, SegmentId, WalPosition};
use super::recovered::{Gap, RecoverError, Recovered};
use super::scan::{Frame, Scanner};
use super::source::SegmentSource;
use super::writer::SegmentFile;

/// Reads a whole WAL. It changes nothing: run again, it finds the same.
pub fn recover<S: SegmentSource>(source: &S) -> Result<Recovered, RecoverError> {
    recover_with(source, Assembly::default())
}

/// As [`recover`], and hands over the entries at and behind a checkpoint too, as far as the segments
/// that are left hold them: for who looks at a log, not for who goes on with it.
pub fn recover_history<S: SegmentSource>(source: &S) -> Result<Recovered, RecoverError> {
    recover_with(source, Assembly::with_history())
}

fn recover_with<S: SegmentSource>(
    source: &S,
    assembly: Assembly,
) -> Result<Recovered, RecoverError> {
    let (scanner, heads) = Scanner::open(source)?;
    let stops = find_stops(&scanner.files, &heads);
    let first = WalPosition::new(stops[0].segment, 0);
    let end = ChainEnd { position: first, chain: 0, run: RunNumber(0) };
    let mut walk = Walk {
        scanner,
        stops,
        stop: 0,
        position: first,
        is_linked: false,
        end,
        survey: None,
        gaps: Vec::new(),
        assembly,
    };
    let has_torn_tail = walk.follow()?;
    Ok(walk.finish(has_torn_tail))
}

/// A segment of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stop {
    segment: SegmentId,
    /// Where the next segment's head says that this one's part of the chain ends.
    content_end: Option<WalPosition>,
}

/// The segments of the chain, oldest first, from what their heads say of the frame before them.
fn find_stops(files: &[SegmentFile], heads: &[FrameHeader]) -> Vec<Stop> {
    let mut stops = Vec::new();
    let mut slot = heads.len() - 1;
    let mut content_end = None;
    loop {
        let head = &heads[slot];
        let segment = head.position().segment();
        stops.push(Stop { segment, content_end });
        let before = head.previous_end();
        // A head that says something senseless of its past ends the chain there.
        if head.position() <= before {
            break;
        }
        let older = heads[..slot].partition_point(|head| head.position() < before);
        let has_head = 0 < older && heads[older - 1].position().segment() == before.segment();
        // A segment without a head was damaged, unless it is older than all and was released.
        let has_file = files.iter().any(|file| file.id == before.segment());
        if !has_head && (has_file || 0 < older) {
            stops.push(Stop { segment: before.segment(), content_end: Some(before) });
        }
        if older == 0 {
            break;
        }
        slot = older - 1;
        content_end = has_head.then_some(before);
    }
    stops.reverse();
    stops
}

struct Walk<'a, S> {
    scanner: Scanner<'a, S>,
    stops: Vec<Stop>,
    /// The stop that `position` lies in.
    stop: usize,
    position: WalPosition,
    /// Whether the frame before `position` is known, so that the next one must repeat its checksum.
    is_linked: bool,
    end: ChainEnd,
    /// Every header from the first break on; made once.
    survey: Option<Survey>,
    gaps: Vec<Gap>,
    assembly: Assembly,
}

impl<S: SegmentSource> Walk<'_, S> {
    /// To the end of the chain; says whether a torn tail lies behind it.
    fn follow(&mut self) -> Result<bool, RecoverError> {
        loop {
            if self.stops[self.stop].content_end == Some(self.position)
                && self.stop + 1 < self.stops.len()
            {
                self.go_to_stop(self.stop + 1);
            }
            let header = self.scanner.header_at(self.position);
            let header = header.filter(|header| self.belongs(header));
            let frame = header.map(|header| self.scanner.frame(header));
            match frame {
                Some(frame) if frame.is_whole() => self.pass(&frame)?,
                _ => {
                    if !self.mend(frame)? {
                        let survey = self.survey.as_ref().expect("made by mend");
                        let is_there = survey.at(self.position).is_some();
                        return Ok(is_there || survey.next_behind(self.position).is_some());
                    }
                }
            }
        }
    }

    /// Whether a header found at the current position goes on with the chain.
    fn belongs(&self, header: &FrameHeader) -> bool {
        assert!(header.position() == self.position);
        let is_next = header.previous_checksum() == self.end.chain
            && header.previous_end() == self.end.position;
        self.end.run <= header.run() && (is_next || !self.is_linked)
    }

    /// Takes a whole frame and goes behind it.
    fn pass(&mut self, frame: &Frame) -> Result<(), RecoverError> {
        self.assembly.on_frame(frame)?;
        self.go_behind(frame);
        Ok(())
    }

    fn go_behind(&mut self, frame: &Frame) {
        self.position = frame.end();
        self.is_linked = true;
        self.end = ChainEnd {
            position: self.position,
            chain: frame.header.chain(),
            run: frame.header.run(),
        };
    }

    fn go_to_stop(&mut self, stop: usize) {
        self.stop = stop;
        self.position = WalPosition::new(self.stops[stop].segment, 0);
    }

    /// The frame at the current position is not whole. Gets past it where that is possible or
    /// where it was synced; `false` where the log ends here.
    fn mend(&mut self, frame: Option<Frame>) -> Result<bool, RecoverError> {
        if self.survey.is_none() {
            self.survey = Some(Survey::new(self.scanner.survey(self.position)));
        }
        let frame = match frame {
            Some(frame) => Some(frame),
            None => self.frame_by_tail(),
        };
        if let Some(frame) = &frame
            && frame.is_whole()
        {
            self.pass(frame)?;
            return Ok(true);
        }
        let survey = self.survey.as_ref().expect("made above");
        if survey.synced_behind(self.position) <= self.position {
            return Ok(false);
        }
        let from = self.position;
        let has_directory = match &frame {
            Some(frame) => {
                let has_directory = frame.lines().is_some();
                if has_directory {
                    self.assembly.on_lost_payload(frame)?;
                } else {
                    self.assembly.on_unknown_loss();
                }
                self.go_behind(frame);
                has_directory
            }
            None => {
                self.assembly.on_unknown_loss();
                self.skip();
                false
            }
        };
        self.gaps.push(Gap { from, to: self.position, has_directory });
        assert!(from < self.position);
        Ok(true)
    }

    /// The frame at the current position by the header in its last block.
    fn frame_by_tail(&mut self) -> Option<Frame> {
        let survey = self.survey.as_ref().expect("made before");
        let header = survey.at(self.position)?;
        self.belongs(&header).then(|| self.scanner.frame(header))
    }

    /// Goes on at the next frame that is left, where nothing says how long the lost one was.
    fn skip(&mut self) {
        self.is_linked = false;
        let stop = self.stop + 1;
        let limit = match self.stops.get(stop) {
            Some(stop) => WalPosition::new(stop.segment, 0),
            None => WalPosition(u64::MAX),
        };
        let limit = self.stops[self.stop].content_end.unwrap_or(limit);
        let survey = self.survey.as_ref().expect("made before");
        match survey.next_behind(self.position) {
            Some(next) if next < limit => {
                if next.segment() != self.position.segment() {
                    self.stops.insert(stop, Stop { segment: next.segment(), content_end: None });
                    self.stop = stop;
                }
                self.position = next;
            }
            _ => {
                assert!(stop < self.stops.len(), "a frame behind the break said so");
                self.go_to_stop(stop);
            }
        }
    }

    fn finish(self, has_torn_tail: bool) -> Recovered {
        let Walk { scanner, end, gaps, mut assembly, .. } = self;
        for group in assembly.groups.values_mut() {
            group.conclude();
        }
        Recovered {
            log_id: scanner.log_id,
            run: end.run,
            end: end.position,
            chain: end.chain,
            segments: scanner.files,
            groups: assembly.groups,
            frames: assembly.frames,
            records: assembly.records,
            notes: assembly.notes,
            has_lost_notes: assembly.has_lost_notes,
            gaps,
            has_torn_tail,
        }
    }
}

/// Every header from the first break on, cut-off ones too.
struct Survey {
    headers: Vec<FrameHeader>,
    /// For each header, the highest position that it or one behind it knew to be synced.
    synced: Vec<WalPosition>,
}

impl Survey {
    fn new(headers: Vec<FrameHeader>) -> Survey {
        let mut synced = vec![WalPosition::START; headers.len()];
        let mut highest = WalPosition::START;
        for (slot, header) in headers.iter().enumerate().rev() {
            // A frame knows of no sync behind itself; one that says so is not ours.
            if header.synced() <= header.position() {
                highest = highest.max(header.synced());
            }
            synced[slot] = highest;
        }
        Survey { headers, synced }
    }

    fn slot_behind(&self, position: WalPosition) -> usize {
        self.headers.partition_point(|header| header.position() <= position)
    }

    /// The header of the frame at `position`, from its last block if need be.
    fn at(&self, position: WalPosition) -> Option<FrameHeader> {
        let slot = self.headers.binary_search_by_key(&position, FrameHeader::position).ok()?;
        Some(self.headers[slot])
    }

    /// Where the next frame behind `position` begins.
    fn next_behind(&self, position: WalPosition) -> Option<WalPosition> {
        self.headers.get(self.slot_behind(position)).map(FrameHeader::position)
    }

    /// Highest position that a frame behind `position` knew to be synced.
    fn synced_behind(&self, position: WalPosition) -> WalPosition {
        self.synced.get(self.slot_behind(position)).copied().unwrap_or(WalPosition::START)
    }
}
