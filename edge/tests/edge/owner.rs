//! A core as an edge sees it: answers commands, queries and watches with the production rules, in
//! memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use conversation::moving::DecisionContext;
use conversation::sequencer::{Conversation, Decision, Outcome};
use conversation::shard::Starts;
use mesh::{Channel, Mesh};
use tokio::sync::mpsc;
use topology::World;
use wire::change::{Change, Event};
use wire::command::{Actor, Answer, Command, Delivery, MeshCommand, Query, Refusal};
use wire::stream::{FromOwner, StreamEnd, ToOwner};
use wire::{ConversationId, ConversationKind, Epoch, Position, RegionId, Slot, TenantId, UserId};

use crate::newer;

/// Where it acts.
const REGION: RegionId = RegionId(1);
/// So many of the largest changes fit into one frame of the mesh.
const FRAME_CHANGES: usize = 60;

/// What all owners of a test share, as they would share a store.
#[derive(Default)]
pub(crate) struct Homes {
    conversations: HashMap<ConversationId, Home>,
    streams: HashMap<u64, mpsc::Sender<FromOwner>>,
    /// Terms that came to their end with their region.
    lost: u64,
    /// Commands are taken and not answered, and nothing is done.
    pub(crate) deaf: bool,
    /// Commands are done and not answered.
    pub(crate) mute: bool,
    /// Feeds are left out.
    pub(crate) forgetful: bool,
    /// What it sends is of the next minor version.
    pub(crate) newer: bool,
    /// Everyone is told that this one is the owner.
    pub(crate) elsewhere: Option<wire::NodeId>,
    /// Commands that came, with their request ids.
    pub(crate) commands: Vec<(u64, Command)>,
    /// Questions that came.
    pub(crate) queries: Vec<Query>,
}

struct Home {
    rules: Conversation,
    changes: Vec<Change>,
    watchers: Vec<u64>,
}

#[derive(Clone)]
pub(crate) struct Owner {
    homes: Arc<Mutex<Homes>>,
    world: Arc<World>,
}

impl Owner {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self { homes: Arc::default(), world }
    }

    pub(crate) fn homes(&self) -> MutexGuard<'_, Homes> {
        self.homes.lock().unwrap()
    }

    /// Serves the channels of one node.
    pub(crate) async fn run(self, mesh: Mesh) {
        while let Some((_, _, channel)) = mesh.accept().await {
            tokio::spawn(self.clone().serve(mesh.node().clone(), channel));
        }
    }

    async fn serve(self, me: wire::NodeId, channel: Channel) {
        static STREAMS: AtomicU64 = AtomicU64::new(0);
        let stream = STREAMS.fetch_add(1, Ordering::Relaxed);
        let (mut sender, mut receiver) = channel.split();
        let elsewhere = self.homes().elsewhere.clone().filter(|owner| *owner != me);
        if elsewhere.is_some() {
            let _ = sender
                .send(FromOwner::End(StreamEnd::NotOwner { owner: elsewhere }).to_bytes())
                .await;
            return;
        }
        let (out, mut frames) = mpsc::channel(100_000);
        self.homes().streams.insert(stream, out.clone());
        let homes = self.homes.clone();
        tokio::spawn(async move {
            while let Some(frame) = frames.recv().await {
                let end = matches!(frame, FromOwner::End(_));
                let newer = homes.lock().unwrap().newer;
                let frames = if newer { newer::frames(&frame).to_vec() } else { vec![frame] };
                for frame in frames {
                    if sender.send(frame.to_bytes()).await.is_err() {
                        return;
                    }
                }
                if end {
                    return;
                }
            }
        });
        while let Ok(Some(bytes)) = receiver.recv().await {
            let answer = self.answer(stream, ToOwner::from_bytes(&bytes).unwrap());
            if let Some(answer) = answer {
                let _ = out.send(answer).await;
            }
        }
        self.homes().streams.remove(&stream);
    }

    fn answer(&self, stream: u64, frame: ToOwner) -> Option<FromOwner> {
        let mut homes = self.homes();
        match frame {
            ToOwner::Command { rid, actor, conversation, command } => {
                homes.commands.push((rid, command.clone()));
                if homes.deaf {
                    return None;
                }
                let result = homes.command(&self.world, &actor, conversation, command);
                (!homes.mute).then_some(FromOwner::Reply { rid, result })
            }
            ToOwner::Query { rid, actor, conversation, query } => {
                homes.queries.push(query.clone());
                Some(FromOwner::Reply {
                    rid,
                    result: homes.query(actor.as_ref(), conversation, query),
                })
            }
            ToOwner::Watch { rid, conversation, after_ver, users, after_epoch } => {
                homes.watch(stream, rid, conversation, after_ver.zip(Some(after_epoch)), &users);
                None
            }
            ToOwner::Unwatch { conversation } => {
                homes.home(conversation).watchers.retain(|watcher| *watcher != stream);
                None
            }
            ToOwner::Unsupported { .. } | ToOwner::Unknown(_) => None,
        }
    }
}

impl Homes {
    fn home(&mut self, id: ConversationId) -> &mut Home {
        let new =
            || Home { rules: Conversation::empty(id), changes: Vec::new(), watchers: Vec::new() };
        self.conversations.entry(id).or_insert_with(new)
    }

    /// Ends every stream, as an owner does whose term is over.
    pub(crate) fn end_streams(&mut self) {
        for (_, out) in self.streams.drain() {
            out.try_send(FromOwner::End(StreamEnd::Stopping)).unwrap();
        }
        self.conversations.values_mut().for_each(|home| home.watchers.clear());
    }

    fn epoch(&self) -> Epoch {
        Epoch(1 + self.lost)
    }

    /// The owner's region is lost, and with it what is behind this change; a later term goes on
    /// there.
    pub(crate) fn lose(&mut self, id: ConversationId, after_ver: u64) {
        self.end_streams();
        self.lost += 1;
        let home = self.home(id);
        home.changes.retain(|change| change.ver <= after_ver);
        home.rules = Conversation::empty(id);
        for change in &home.changes {
            home.rules
                .apply(change, Position { epoch: change.epoch, slot: Slot(change.ver) })
                .unwrap();
        }
    }

    /// Who watches a conversation.
    pub(crate) fn watchers(&mut self, id: ConversationId) -> usize {
        self.home(id).watchers.len()
    }

    /// As if some user had sent it through another edge.
    pub(crate) fn command(
        &mut self,
        world: &World,
        actor: &Actor,
        id: ConversationId,
        command: impl Into<Command>,
    ) -> Result<Answer, Refusal> {
        let epoch = self.epoch();
        let home = self.home(id);
        let moment =
            DecisionContext { now_ms: 1, shard: id.shard, epoch, starts: &Starts::default() };
        let outcome = match home.rules.decide(moment, actor, command, None) {
            Decision::Refuse(refusal) => return Err(refusal),
            Decision::Moved(_) | Decision::NeedsReload => unreachable!("nothing moves here"),
            Decision::Already(outcome) => return Ok(home.rules.answer(outcome, REGION)),
            Decision::Commit(changes) => {
                let outcome = Outcome::of(changes.last().unwrap());
                for change in changes {
                    let at = Position { epoch, slot: Slot(change.ver) };
                    self.home(id).rules.apply(&change, at).unwrap();
                    self.commit(world, &actor.tenant, change);
                }
                outcome
            }
        };
        Ok(self.home(id).rules.answer(outcome, REGION))
    }

    fn commit(&mut self, world: &World, tenant: &TenantId, change: Change) {
        let id = change.conversation;
        let home = self.home(id);
        home.changes.push(change.clone());
        let delivery = home.delivery(change.clone());
        let watchers = home.watchers.clone();
        if !self.forgetful {
            for watcher in watchers {
                self.send(watcher, FromOwner::Feed { deliveries: vec![delivery.clone()] });
            }
        }
        if id.kind == ConversationKind::User {
            return;
        }
        let joined = |at_ver| MeshCommand::NoteJoined {
            conversation: id,
            name: None,
            joined_seq: 1,
            at_ver,
        };
        let left = |at_ver| MeshCommand::NoteLeft { conversation: id, at_ver };
        let notes: Vec<(UserId, MeshCommand)> = match change.event {
            Event::Created(created) => {
                created.members.into_iter().map(|(user, _)| (user, joined(1))).collect()
            }
            Event::MembersChanged(changed) => {
                let added = changed.added.into_iter().map(|(user, _)| (user, joined(change.ver)));
                added
                    .chain(changed.removed.into_iter().map(|user| (user, left(change.ver))))
                    .collect()
            }
            _ => Vec::new(),
        };
        for (user, note) in notes {
            let own = world.user_stream_id(tenant, &user).unwrap();
            let actor = Actor { tenant: tenant.clone(), user, device: None };
            self.command(world, &actor, own, note).unwrap();
        }
    }

    fn send(&self, stream: u64, frame: FromOwner) {
        if let Some(out) = self.streams.get(&stream) {
            let _ = out.try_send(frame);
        }
    }

    fn watch(
        &mut self,
        stream: u64,
        rid: u64,
        id: ConversationId,
        after: Option<(u64, Option<Epoch>)>,
        users: &[UserId],
    ) {
        let home = self.home(id);
        let (head_ver, head_seq) = (home.rules.head_ver(), home.rules.head_seq());
        let members =
            users.iter().filter(|user| home.rules.members().contains_key(*user)).cloned().collect();
        if !home.watchers.contains(&stream) {
            home.watchers.push(stream);
        }
        let (after, epoch) = after.unwrap_or((head_ver, None));
        let has = |change: &&Change| {
            change.ver <= after && epoch.is_none_or(|epoch| change.epoch <= epoch)
        };
        let after = home.changes.iter().rfind(has).map_or(0, |change| change.ver);
        let missed: Vec<_> =
            home.changes.iter().filter(|change| change.ver > after).cloned().collect();
        let missed: Vec<_> = missed.into_iter().map(|change| home.delivery(change)).collect();
        let head_epoch = Some(home.rules.last_epoch());
        self.send(
            stream,
            FromOwner::Reply {
                rid,
                result: Ok(Answer::Watching { head_ver, head_seq, members, head_epoch }),
            },
        );
        for deliveries in missed.chunks(FRAME_CHANGES) {
            self.send(stream, FromOwner::Feed { deliveries: deliveries.to_vec() });
        }
    }

    fn query(
        &mut self,
        actor: Option<&Actor>,
        id: ConversationId,
        query: Query,
    ) -> Result<Answer, Refusal> {
        let home = self.home(id);
        if let Some(actor) = actor {
            home.rules.readable_by(&actor.tenant, &actor.user)?;
        }
        let (head_seq, head_ver) = (home.rules.head_seq(), home.rules.head_ver());
        Ok(match query {
            Query::History { before, after, limit } => {
                let is_message = |change: &&Change| matches!(change.event, Event::Message(_));
                let mut messages: Vec<Change> =
                    home.changes.iter().filter(is_message).cloned().collect();
                let seq = |change: &Change| match &change.event {
                    Event::Message(message) => message.seq,
                    _ => 0,
                };
                messages.retain(|c| {
                    before.is_none_or(|b| seq(c) < b) && after.is_none_or(|a| seq(c) > a)
                });
                let most = usize::from(limit).min(FRAME_CHANGES);
                let has_more = messages.len() > most;
                if after.is_some() {
                    messages.truncate(most);
                } else {
                    messages.drain(..messages.len().saturating_sub(most));
                }
                let messages = messages.into_iter().map(Into::into).collect();
                Answer::History { messages, head_seq, head_ver, has_more }
            }
            Query::Changes { after_ver, limit } => {
                let after = home.changes.iter().filter(|change| change.ver > after_ver);
                let changes: Vec<_> =
                    after.take(usize::from(limit).min(FRAME_CHANGES)).cloned().collect();
                let changes = changes.into_iter().map(|change| home.delivery(change)).collect();
                Answer::Changes { changes, head_ver }
            }
            Query::View { members_after } => Answer::View {
                view: Box::new(home.rules.view(REGION, members_after.as_ref())),
                created: false,
            },
            Query::Inbox { after, limit } => {
                let (lines, _) = home.rules.inbox(after.as_ref(), usize::from(limit));
                Answer::Inbox { lines, next: None, head_ver }
            }
            Query::Unknown(_) => {
                return Err(Refusal::new(wire::ErrorCode::UnknownType, "not known here"));
            }
        })
    }
}

impl Home {
    fn delivery(&self, change: Change) -> Delivery {
        let turn = matches!(change.event, Event::Created(_) | Event::MembersChanged(_));
        let view = turn.then(|| Box::new(self.rules.outline(REGION)));
        Delivery { change: change.into(), view }
    }
}
