//! Every step that can be taken, and what must hold after it.

use std::rc::Rc;

use hearth_conversation::edge_cursor::{EdgeCursor, Next};
use hearth_conversation::log::LogFrame;
use hearth_conversation::moving::{Mover, Offer, supersedes};
use hearth_conversation::sequencer::{Conversation, Decision, Outcome};
use wire::Durability;
use wire::change::{Change, Event, Home, MovedIn};
use wire::codec::Unknown;
use wire::command::MeshCommand;
use wire::{Epoch, Position, Slot};

use super::state::{Memory, SHARDS, Shard, State, ann, id, index, name, send, shard_id};
use super::table::{Frame, Table};
use super::{Action, CameOver, Mutant, Steps, World};
use crate::search::Step;

type Stepped = Result<State, String>;

impl World {
    pub(super) fn all_steps(&self, state: &State, found: &mut Steps) {
        for at in 0..SHARDS {
            self.owner_steps(state, at, found);
            self.fault_steps(state, at, found);
            if self.bounds.edge && state.edge.asked & (1 << at) != 0 {
                self.deliveries(state, at, found);
            }
        }
        for offer in &state.offers {
            let action = Action::Offer { n: offer.n, to: index(offer.to) };
            push(found, action, self.offered(state, *offer));
        }
        for step in found.iter_mut() {
            if let Ok(state) = &mut step.to {
                self.settle(state);
            }
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn is_forking(&self) -> bool {
        self.bounds.durability == Durability::Region
    }

    /// What drivers do by themselves: say how far it all is, and make their offers.
    fn settle(&self, state: &mut State) {
        if !self.bounds.late_offers {
            let shards = &state.shards;
            state.offers.retain(|offer| {
                shards[index(offer.from)].mover.offers().any(|open| open == *offer)
            });
        }
        for shard in &mut state.shards {
            let reached = match self.mutant {
                Some(Mutant::NoWaitForProjection) => shard.committed,
                Some(Mutant::UnreplicatedMoveOut) => shard.projected,
                _ if self.is_forking() => shard.everywhere,
                _ => shard.projected,
            };
            shard.mover.reach(Slot(reached as u64));
            for offer in shard.mover.offers() {
                if let Err(at) = state.offers.binary_search(&offer) {
                    state.offers.insert(at, offer);
                }
            }
        }
    }

    fn owner_steps(&self, state: &State, at: usize, found: &mut Steps) {
        let shard = &state.shards[at];
        if state.edge.asked & (1 << at) != 0 {
            for message in 0..self.bounds.messages {
                push(found, Action::Send(message, at), self.sent(state, message, at));
            }
        }
        if state.moves > 0 {
            for to in (0..SHARDS).filter(|to| *to != at) {
                push(found, Action::Move { from: at, to }, self.sent_away(state, at, to));
            }
        }
        if !shard.all_committed() {
            let mut to = state.clone();
            let committed = self.commit(&mut to, at);
            found.push(Step { action: Action::Commit(at), to: committed.map(|()| to) });
        }
        if shard.projected < shard.committed {
            for seen_everywhere in [true, false] {
                if seen_everywhere || self.is_forking() {
                    let mut to = state.clone();
                    let projected = self.project(&mut to, at, seen_everywhere).map(|()| to);
                    found.push(Step {
                        action: Action::Project { shard: at, seen_everywhere },
                        to: projected,
                    });
                }
            }
        }
        if self.is_forking() && shard.everywhere < shard.projected {
            let mut to = state.clone();
            let frame = shard.log[shard.everywhere].clone();
            to.shards[at].everywhere += 1;
            to.shards.iter_mut().for_each(|shard| Rc::make_mut(&mut shard.view).project(&frame));
            found.push(Step { action: Action::EveryRegionHas(at), to: Ok(to) });
        }
    }

    /// The owner's memory of the conversation, read from the projections if it has none.
    fn open(&self, state: &State, at: usize) -> Rc<Memory> {
        let shard = &state.shards[at];
        shard.memory.clone().unwrap_or_else(|| self.remember(state, at, &shard.view, shard.start))
    }

    fn remember(&self, state: &State, at: usize, table: &Table, away_before: Slot) -> Rc<Memory> {
        let loaded = self.read(state, at, table);
        let moment = state.shards[at].moment(at, self.bounds.durability);
        Memory::new(loaded, away_before, moment, self.bounds.messages)
    }

    /// As a core reads it: what was lost with a region is not believed.
    fn read(&self, state: &State, at: usize, table: &Table) -> Conversation {
        let (id, rows) = (id(self.bounds.durability), table.load());
        let location = rows.location(id);
        let judge = location.judge();
        let is_elsewhere = location.arrived && index(judge) != at;
        let believed = !self.is_forking() || is_elsewhere || self.is(Mutant::RowsBelieved);
        if believed || rows.counts(id, &state.shards[index(judge)].starts) {
            return Conversation::load(id, rows);
        }
        let starts = (0..SHARDS)
            .map(|n| (shard_id(n, self.bounds.durability), state.shards[n].starts.clone()))
            .collect();
        let mut replayed = Conversation::empty(id);
        replayed.replay(&table.changes(), &starts);
        replayed
    }

    fn sent(&self, state: &State, message: usize, at: usize) -> Option<Stepped> {
        let memory = self.open(state, at);
        let (shard, conversation) = (&state.shards[at], &memory.conversation);
        let mut seen = None;
        if conversation.needs_dedupe_lookup(&ann(), &send(message)) && !self.is(Mutant::MemoryOnly)
        {
            seen = shard.view.seen(&name(message)).filter(|seen| match self.mutant {
                Some(Mutant::TableBelieved) => true,
                Some(Mutant::StartsOfHereOnly) => shard.starts.owns(seen.at),
                _ => conversation.counts(seen, &shard.starts),
            });
        }
        let moment = shard.moment(at, self.bounds.durability);
        match conversation.decide(moment, &ann(), send(message), seen.as_ref()) {
            Decision::Commit(changes) => {
                let mut to = state.clone();
                self.append(&mut to, at, memory.clone(), changes);
                Some(Ok(to))
            }
            // Leaves when everything decided before it is committed; until then it may as well not
            // have arrived.
            Decision::Already(Outcome::Ack(ack)) if shard.all_committed() => {
                let mut to = state.clone();
                to.shards[at].memory = Some(memory.clone());
                Some(self.acknowledge(&mut to, message, ack.seq).map(|()| to))
            }
            Decision::Moved(placement) if shard.all_committed() => {
                let told = shard.mover.may_tell(&id(self.bounds.durability), memory.away_before);
                // What is on its way to this shard waits for it here.
                let comes = placement.shard == shard_id(at, self.bounds.durability);
                if (!told || comes) && !self.is(Mutant::ToldTooEarly) {
                    return None;
                }
                let left_in_this_term = memory.away_before > shard.start;
                if !left_in_this_term
                    && !memory.conversation.location().is_certain()
                    && !self.is(Mutant::UnconfirmedTold)
                {
                    // Read anew when it is asked for again.
                    return None;
                }
                let mut to = state.clone();
                to.shards[at].memory = Some(memory.clone());
                self.hear(&mut to, placement);
                Some(Ok(to))
            }
            Decision::Already(_) | Decision::Moved(_) => None,
            other => Some(Err(format!("a send came to {other:?}"))),
        }
    }

    fn sent_away(&self, state: &State, at: usize, to_shard: usize) -> Option<Stepped> {
        let memory = self.open(state, at);
        let moment = state.shards[at].moment(at, self.bounds.durability);
        let command = MeshCommand::Move { to: shard_id(to_shard, self.bounds.durability) };
        match memory.conversation.decide(moment, &ann(), command, None) {
            Decision::Commit(changes) => {
                let mut to = state.clone();
                to.moves -= 1;
                self.append(&mut to, at, memory, changes);
                Some(Ok(to))
            }
            Decision::Moved(_) => None,
            other => Some(Err(format!("a move came to {other:?}"))),
        }
    }

    fn offered(&self, state: &State, offer: Offer) -> Option<Stepped> {
        let at = index(offer.to);
        let memory = self.open(state, at);
        let moment = state.shards[at].moment(at, self.bounds.durability);
        let command = MeshCommand::AcceptTransfer { n: offer.n, ver: offer.ver, from: offer.from };
        match memory.conversation.decide(moment, &ann(), command, None) {
            Decision::Already(_) if self.is(Mutant::NoNumber) => {
                Some(Ok(self.forced(state, offer, at)))
            }
            Decision::Already(_) => self.answered(state, offer, at),
            Decision::NeedsReload if self.is(Mutant::NoWaitForProjection) => {
                Some(Ok(self.forced(state, offer, at)))
            }
            Decision::NeedsReload => {
                let fresh =
                    self.remember(state, at, &state.shards[at].view, state.shards[at].start);
                match fresh.conversation.admit(moment, offer) {
                    Decision::Commit(changes) => {
                        let mut to = state.clone();
                        self.append(&mut to, at, fresh, changes);
                        Some(Ok(to))
                    }
                    Decision::Already(_) => self.answered(state, offer, at),
                    // It comes again.
                    Decision::Refuse(_) => None,
                    other => Some(Err(format!("an offer came to {other:?}"))),
                }
            }
            other => Some(Err(format!("an offer came to {other:?}"))),
        }
    }

    /// The answer to an offer, if it leaves and changes anything.
    fn answered(&self, state: &State, offer: Offer, at: usize) -> Option<Stepped> {
        let (source, shard) = (index(offer.from), &state.shards[at]);
        let arrived = |frame: &Rc<Frame>| matches!(&frame.change().event, Event::MovedIn(moved) if moved.here.generation == offer.n);
        let in_every_region = !self.is_forking()
            || self.is(Mutant::StopAtTheFirstMoveIn)
            || shard.log.iter().position(arrived).is_none_or(|slot| slot < shard.everywhere);
        let open = state.shards[source].mover.offers().any(|open| open == offer);
        if !open || !shard.all_committed() {
            return None;
        }
        let mut to = state.clone();
        let mover = &mut to.shards[source].mover;
        mover.arrived(offer.conversation, offer.n);
        if in_every_region {
            mover.taken_in(offer.conversation, offer.n);
        }
        Some(Ok(to))
    }

    /// Mutants only: takes in what is offered without a look at what can be read, except for heads
    /// and members.
    fn forced(&self, state: &State, offer: Offer, at: usize) -> State {
        let fresh = self.remember(state, at, &Table::of(&state.history), Slot(0));
        let conversation = &fresh.conversation;
        let moved = MovedIn {
            here: Home { generation: offer.n, shard: offer.to },
            from: offer.from,
            epoch_base: conversation.last_epoch(),
            tenures: conversation.location().tenures.clone(),
        };
        let change = Change {
            conversation: offer.conversation,
            ver: conversation.head_ver() + 1,
            epoch: Epoch(conversation.last_epoch().0 + state.shards[at].epoch.0),
            ts_ms: conversation.last_ts_ms() + 1,
            event: Event::MovedIn(moved),
        };
        let mut to = state.clone();
        self.append(&mut to, at, fresh, vec![change]);
        to
    }

    /// Decided, on top of everything before it, and on its way to the log.
    fn append(&self, to: &mut State, at: usize, memory: Rc<Memory>, changes: Vec<Change>) {
        let shard = &mut to.shards[at];
        let mut memory = (*memory).clone();
        for change in changes {
            let change = self.mutated(change, shard, at);
            let place = shard.next();
            let mut applied = change.clone();
            if let Event::MovedOut(_) = &change.event {
                memory.away_before = place.slot.next();
                if self.is(Mutant::SendBehindMoveOut) {
                    applied.event = Event::Unknown(Unknown::new(99, bytes::Bytes::new()));
                }
            }
            memory
                .conversation
                .apply(&applied, place)
                .expect("a change follows on the state it was decided on");
            let log = LogFrame {
                epoch: place.epoch,
                slot: place.slot,
                ts_ms: change.ts_ms,
                changes: vec![change.into()],
            };
            shard.log.push(Frame::new(log, self.is(Mutant::StampedByPlace)));
        }
        let moment = shard.moment(at, self.bounds.durability);
        shard.memory = Some(Memory::new(
            memory.conversation,
            memory.away_before,
            moment,
            self.bounds.messages,
        ));
        if self.is(Mutant::UncommittedDrive) {
            let last = shard.log.last().expect("just appended").clone();
            shard.mover.take(&last.log);
            shard.mover.reach(last.log.slot.next());
            to.shards.iter_mut().for_each(|shard| Rc::make_mut(&mut shard.view).project(&last));
            let offers: Vec<Offer> = to.shards[at].mover.offers().collect();
            to.offers.extend(offers);
            to.offers.sort_unstable();
            to.offers.dedup();
        }
    }

    fn mutated(&self, mut change: Change, shard: &Shard, at: usize) -> Change {
        let moment = shard.moment(at, self.bounds.durability);
        if let Event::MovedIn(moved) = &mut change.event {
            match self.mutant {
                Some(Mutant::EpochReset) => moved.epoch_base = Epoch(0),
                Some(Mutant::OffsetFromTheEpoch) => {
                    moved.epoch_base =
                        Epoch((moved.epoch_base.0 + 1).saturating_sub(moment.epoch.0));
                }
                Some(Mutant::OlderTime) => change.ts_ms = moment.now_ms,
                _ => return change,
            }
            change.epoch = Epoch(moved.epoch_base.0 + moment.epoch.0);
        }
        change
    }

    /// The next frame of a shard is committed: what it holds goes on where the conversation was.
    fn commit(&self, to: &mut State, at: usize) -> Result<(), String> {
        let shard = &mut to.shards[at];
        let frame = shard.log[shard.committed].clone();
        shard.committed += 1;
        shard.mover.take(&frame.log);
        let (change, head) = (frame.change(), to.head());
        if change.ver != head.ver + 1 {
            return Err(format!(
                "ver {} of shard {at} is committed after ver {}",
                change.ver, head.ver
            ));
        }
        if change.epoch < head.epoch || change.ts_ms < head.ts_ms {
            return Err(format!("ver {}: the epoch or the time falls", change.ver));
        }
        let arrives = matches!(change.event, Event::MovedIn(_));
        if arrives && (change.epoch <= head.epoch || change.ts_ms <= head.ts_ms) {
            return Err(format!(
                "ver {}: the epoch or the time does not rise with the move",
                change.ver
            ));
        }
        if let Some(lost) = to.lost.iter().find(|lost| lost.change().epoch >= change.epoch) {
            return Err(format!(
                "ver {} has an epoch that lost changes have, as ver {}",
                change.ver,
                lost.change().ver
            ));
        }
        let message = message_of(change);
        if message.is_some() && to.history.iter().any(|there| message_of(there.change()) == message)
        {
            return Err(format!("message {message:?} counts twice"));
        }
        to.history.push(frame.clone());
        match (&frame.change().event, message) {
            (Event::Message(sent), Some(message)) => self.acknowledge(to, message, sent.seq),
            _ => Ok(()),
        }
    }

    fn acknowledge(&self, to: &mut State, message: usize, seq: u64) -> Result<(), String> {
        let there = to.history.iter().find(|frame| message_of(frame.change()) == Some(message));
        let its = there.and_then(|frame| match &frame.change().event {
            Event::Message(message) => Some(message.seq),
            _ => None,
        });
        if its != Some(seq) {
            return Err(format!("message {message} is acknowledged as seq {seq} and is {its:?}"));
        }
        to.acked[message] = Some(seq);
        Ok(())
    }

    fn project(&self, to: &mut State, at: usize, seen_everywhere: bool) -> Result<(), String> {
        let shard = &mut to.shards[at];
        let frame = shard.log[shard.projected].clone();
        shard.projected += 1;
        for (n, shard) in to.shards.iter_mut().enumerate() {
            if seen_everywhere || n == at {
                Rc::make_mut(&mut shard.view).project(&frame);
            }
        }
        let all = to.shards.iter().all(|shard| shard.projected == shard.committed);
        let by_place = self.is(Mutant::StampedByPlace);
        if all && !self.is_forking() && !by_place && !to.shards[at].view.is(&Table::of(&to.history))
        {
            return Err("what is projected is not what was committed".into());
        }
        if all && by_place {
            let loaded = Conversation::load(id(self.bounds.durability), to.shards[at].view.load());
            if loaded.head_ver() != to.head().ver {
                return Err(format!(
                    "the head is ver {}, and is read as {}",
                    to.head().ver,
                    loaded.head_ver()
                ));
            }
        }
        Ok(())
    }

    fn fault_steps(&self, state: &State, at: usize, found: &mut Steps) {
        let shard = &state.shards[at];
        if state.crashes > 0 {
            for keeps in 0..=shard.log.len() - shard.committed {
                let mut to = state.clone();
                to.crashes -= 1;
                let taken = self.take_over(&mut to, at, keeps).map(|()| to);
                found.push(Step { action: Action::Takeover { shard: at, keeps }, to: taken });
            }
        }
        if state.forks > 0 {
            for cut in shard.everywhere..shard.log.len() {
                for came_over in [CameOver::Nothing, CameOver::Sends, CameOver::Rows] {
                    let forked = self.fork(state, at, cut, came_over);
                    found.push(Step {
                        action: Action::Fork { shard: at, cut, came_over },
                        to: forked,
                    });
                }
            }
        }
    }

    fn take_over(&self, to: &mut State, at: usize, keeps: usize) -> Result<(), String> {
        let end = to.shards[at].committed + keeps;
        to.shards[at].log.truncate(end);
        while !to.shards[at].all_committed() {
            self.commit(to, at)?;
        }
        // The tail is projected before the term is served.
        while to.shards[at].projected < end {
            self.project(to, at, !self.is_forking())?;
        }
        self.begin_term(&mut to.shards[at], at);
        Ok(())
    }

    fn begin_term(&self, shard: &mut Shard, at: usize) {
        shard.epoch = shard.epoch.next();
        shard.start = Slot(shard.log.len() as u64);
        shard.starts.insert(shard.epoch, shard.start);
        shard.memory = None;
        let mut cursor = shard.mover.cursor();
        if self.is(Mutant::OnlyTheOriginalDriver) {
            cursor = Position { epoch: shard.epoch, slot: shard.start };
        }
        // A cursor that stands behind a cut goes back to it.
        cursor.slot = cursor.slot.min(shard.start);
        shard.mover = Mover::new(shard_id(at, self.bounds.durability), Some(cursor));
        for frame in &shard.log[shard.mover.next_slot().0 as usize..] {
            shard.mover.take(&frame.log);
        }
    }

    fn fork(&self, state: &State, at: usize, cut: usize, came_over: CameOver) -> Stepped {
        let mut to = state.clone();
        to.forks -= 1;
        let gone = to.shards[at].log.split_off(cut);
        let committed = to.shards[at].committed.saturating_sub(cut).min(gone.len());
        let projected = to.shards[at].projected.saturating_sub(cut).min(gone.len());
        for frame in gone[..committed].iter().rev() {
            let change = frame.change();
            if to.head() != change {
                return Err(format!(
                    "the fork cuts ver {}, and ver {} follows on it",
                    change.ver,
                    to.head().ver
                ));
            }
            to.history.pop();
            to.lost.push(frame.clone());
            if let Some(message) = message_of(change) {
                to.acked[message] = None;
            }
        }
        if let Some(placement) = to.edge.placement.filter(|placement| placement.generation > 0) {
            let was = |frame: &Rc<Frame>| matches!(&frame.change().event, Event::MovedOut(out) if out.to == placement);
            if !to.history.iter().any(was) {
                return Err(format!("an edge was told of {placement:?}, which never was"));
            }
        }
        // What every region has, and of this shard what it keeps.
        let others = to.shards.iter().enumerate().filter(|(n, _)| *n != at);
        let frames =
            others.flat_map(|(_, shard)| &shard.log[..shard.everywhere]).chain(&to.shards[at].log);
        let mut view = Table::of(frames);
        for frame in &gone[..projected] {
            let views =
                to.shards.iter_mut().map(|shard| Rc::make_mut(&mut shard.view)).chain([&mut view]);
            match came_over {
                CameOver::Nothing => {}
                CameOver::Sends => views.for_each(|view| view.project_sends(frame)),
                CameOver::Rows => views.for_each(|view| view.project(frame)),
            }
        }
        to.shards[at].committed = to.shards[at].committed.min(cut);
        while !to.shards[at].all_committed() {
            self.commit(&mut to, at)?;
        }
        let shard = &mut to.shards[at];
        shard.projected = cut;
        shard.everywhere = shard.everywhere.min(cut);
        shard.view = Rc::new(view);
        self.begin_term(shard, at);
        Ok(to)
    }

    fn hear(&self, to: &mut State, placement: Home) {
        let edge = &mut to.edge;
        if supersedes(placement, edge.placement) {
            edge.placement = Some(placement);
            edge.asked |= 1 << index(placement.shard);
            if self.is(Mutant::EdgeStartsAtTheHead) {
                edge.cursor = EdgeCursor::after(to.history.len() as u64, None);
            }
        }
    }

    fn deliveries(&self, state: &State, at: usize, found: &mut Steps) {
        let shard = &state.shards[at];
        for frame in &shard.log[..shard.committed] {
            let (ver, epoch) = (frame.change().ver, frame.change().epoch);
            if ver <= state.edge.cursor.last() {
                continue;
            }
            let mut to = state.clone();
            let vers = match to.edge.cursor.offer(ver, epoch, ver) {
                _ if self.is(Mutant::DeliveryByArrival) => {
                    to.edge.cursor = EdgeCursor::after(ver, None);
                    vec![ver]
                }
                Next::Deliver(vers) => vers,
                Next::Stale | Next::Hole { .. } => vec![],
                // Would be shown twice, and found: nothing that was committed here is ever lost.
                Next::Forked(ver) => vec![ver],
            };
            let shown = vers.into_iter().try_for_each(|ver| {
                let before = std::mem::replace(&mut to.edge.shown, ver);
                if ver == before + 1 {
                    Ok(())
                } else {
                    Err(format!("ver {ver} is shown after ver {before}"))
                }
            });
            found.push(Step { action: Action::Deliver { from: at, ver }, to: shown.map(|()| to) });
        }
    }

    /// Everything sent is acknowledged, every move is over, and the edge asks where it is and has
    /// shown all.
    pub(super) fn is_done(&self, state: &State) -> bool {
        let settled = |shard: &Shard| {
            shard.projected == shard.log.len()
                && shard.mover.cursor().slot.0 as usize == shard.log.len()
        };
        let acked = state.acked.iter().all(Option::is_some);
        let location = state.history.iter().rev().find_map(|frame| match &frame.change().event {
            Event::MovedOut(_) => Some(None),
            Event::MovedIn(moved) => Some(Some(moved.here)),
            _ => None,
        });
        // It asks in the right shard: one that has come back to where it was born need not have
        // been heard of.
        let asks_at = state
            .edge
            .placement
            .map_or(shard_id(0, self.bounds.durability), |placement| placement.shard);
        let is_at = match location {
            None => Some(shard_id(0, self.bounds.durability)),
            Some(here) => here.map(|here| here.shard),
        };
        let found = is_at == Some(asks_at);
        let shown = !self.bounds.edge || state.edge.shown == state.history.len() as u64;
        acked && found && shown && state.shards.iter().all(settled)
    }
}

fn message_of(change: &Change) -> Option<usize> {
    let Event::Message(message) = &change.event else { return None };
    message.draft.client_msg_id.as_str()[1..].parse().ok()
}

fn push(found: &mut Steps, action: Action, stepped: Option<Stepped>) {
    found.extend(stepped.map(|to| Step { action, to }));
}
