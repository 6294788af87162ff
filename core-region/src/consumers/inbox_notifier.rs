//! The consumer `notes`: for every committed change of membership, a command to the own stream of
//! each user concerned, in whatever region that is at home. So an inbox lists what its user is in.
//!
//! After a failure some commands are sent twice; `at_ver` makes the second one nothing.

use std::num::NonZeroUsize;
use std::sync::Arc;

use async_trait::async_trait;
use conversation::log::LogFrame;
use futures_util::future::join_all;
use lru::LruCache;
use smol_str::SmolStr;
use tokio::sync::Semaphore;
use wire::change::{Change, Event};
use wire::command::{Actor, MeshCommand};
use wire::{ConversationId, ConversationKind, Slot, TenantId, UserId};

use super::{Consumer, ConsumerContext, ConsumerError, Done};
use crate::retry::retry_forever;

/// Conversations whose facts are remembered.
const FACTS_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("not zero");
/// Commands of one shard that are sent and not answered. Full: later frames wait.
const OUTSTANDING_MAX: usize = 4_096;

/// A conversation's tenant and, of a group, its name.
type Facts = (TenantId, Option<SmolStr>);

/// See the module.
pub struct InboxNotifier {
    facts: LruCache<ConversationId, Facts>,
    outstanding: Arc<Semaphore>,
}

impl Default for InboxNotifier {
    fn default() -> Self {
        Self {
            facts: LruCache::new(FACTS_MAX),
            outstanding: Arc::new(Semaphore::new(OUTSTANDING_MAX)),
        }
    }
}

#[async_trait]
impl Consumer for InboxNotifier {
    fn name(&self) -> &'static str {
        "notes"
    }

    async fn frame(
        &mut self,
        frame: Arc<LogFrame>,
        context: &ConsumerContext,
    ) -> Result<Done, ConsumerError> {
        let mut commands = Vec::new();
        for change in &frame.changes {
            commands.extend(self.commands_for(change, frame.slot, context).await?);
        }
        if commands.is_empty() {
            return Ok(Done::Now);
        }
        let permits = commands.len().min(OUTSTANDING_MAX) as u32;
        // Never closed. What is outstanding of earlier frames goes on meanwhile.
        let permit = self.outstanding.clone().acquire_many_owned(permits).await.ok();
        let sent: Vec<_> = commands
            .into_iter()
            .map(|(stream, actor, command)| {
                let answer = context.ask(stream, actor, command);
                async move {
                    if let Err(refusal) = answer.await {
                        tracing::error!(?refusal, %stream, "a note was refused and is left out");
                    }
                }
            })
            .collect();
        Ok(Done::When(Box::pin(async move {
            join_all(sent).await;
            drop(permit);
            Ok(())
        })))
    }
}

impl InboxNotifier {
    async fn commands_for(
        &mut self,
        change: &Change,
        slot: Slot,
        context: &ConsumerContext,
    ) -> Result<Vec<(ConversationId, Actor, MeshCommand)>, ConsumerError> {
        let conversation = change.conversation;
        if conversation.kind == ConversationKind::User {
            return Ok(Vec::new());
        }
        let (tenant, name) = match &change.event {
            Event::Created(created) => {
                let facts = (created.tenant.clone(), created.name.clone());
                self.facts.put(conversation, facts.clone());
                facts
            }
            Event::MembersChanged(_) => match self.facts_of(conversation, slot, context).await? {
                Some(facts) => facts,
                None => return Ok(Vec::new()),
            },
            Event::Message(_)
            | Event::Joined(_)
            | Event::Left(_)
            | Event::MovedOut(_)
            | Event::MovedIn(_)
            | Event::Unknown(_) => return Ok(Vec::new()),
        };
        let to_stream = |(user, command): (UserId, MeshCommand)| {
            let Some(stream) = context.user_stream(&tenant, &user) else {
                tracing::error!(%conversation, "a member of a tenant that the world does not know");
                return None;
            };
            Some((stream, Actor { tenant: tenant.clone(), user, device: None }, command))
        };
        Ok(commands(change, name.as_ref()).into_iter().filter_map(to_stream).collect())
    }

    async fn facts_of(
        &mut self,
        id: ConversationId,
        slot: Slot,
        context: &ConsumerContext,
    ) -> Result<Option<Facts>, ConsumerError> {
        if let Some(facts) = self.facts.get(&id) {
            return Ok(Some(facts.clone()));
        }
        context.projected(slot).await;
        let rows = retry_forever(|| context.store().conversation(id)).await?;
        let Some(facts) = rows.and_then(|rows| rows.facts) else {
            tracing::error!(conversation = %id, "a conversation has members and no facts");
            return Ok(None);
        };
        let facts = (facts.tenant, facts.name);
        self.facts.put(id, facts.clone());
        Ok(Some(facts))
    }
}

/// The commands that a change of membership means, each with its user.
fn commands(change: &Change, name: Option<&SmolStr>) -> Vec<(UserId, MeshCommand)> {
    let (conversation, at_ver) = (change.conversation, change.ver);
    let joined = |user: &UserId, joined_seq| {
        (
            user.clone(),
            MeshCommand::NoteJoined { conversation, name: name.cloned(), joined_seq, at_ver },
        )
    };
    match &change.event {
        Event::Created(created) => {
            created.members.iter().map(|(user, _)| joined(user, 1)).collect()
        }
        Event::MembersChanged(changed) => {
            let added = changed.added.iter().map(|(user, _)| joined(user, changed.head_seq + 1));
            let removed = changed
                .removed
                .iter()
                .map(|user| (user.clone(), MeshCommand::NoteLeft { conversation, at_ver }));
            added.chain(removed).collect()
        }
        Event::Message(_)
        | Event::Joined(_)
        | Event::Left(_)
        | Event::MovedOut(_)
        | Event::MovedIn(_)
        | Event::Unknown(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use wire::change::{Created, MembersChanged, Role};
    use wire::{Durability, Epoch, RegionId, ShardId, ZoneId};

    use super::*;

    fn change(event: Event) -> Change {
        let shard =
            ShardId { zone: ZoneId(1), home: RegionId(1), durability: Durability::Region, n: 0 };
        let conversation = ConversationId { kind: ConversationKind::Group, shard, unique: [1; 16] };
        Change { conversation, ver: 7, epoch: Epoch(1), ts_ms: 1, event }
    }

    #[test]
    fn everyone_who_came_or_went_is_told_and_nobody_else() {
        let user = |name: &str| UserId::new(name).unwrap();
        let tenant = TenantId::new("demo").unwrap();
        let members = vec![(user("ann"), Role::Owner), (user("bob"), Role::Member)];
        let created = Event::Created(Created { tenant, name: None, by: user("ann"), members });
        let told: Vec<_> =
            commands(&change(created), None).into_iter().map(|(user, _)| user).collect();
        assert_eq!(told, [user("ann"), user("bob")], "who created it, too");

        let changed = Event::MembersChanged(MembersChanged {
            by: user("ann"),
            added: vec![(user("cem"), Role::Member)],
            removed: vec![user("bob")],
            roles: vec![(user("ann"), Role::Admin)],
            head_seq: 41,
            member_count: 2,
        });
        let told = commands(&change(changed), None);
        assert_eq!(told.len(), 2);
        assert!(matches!(told[0], (_, MeshCommand::NoteJoined { joined_seq: 42, at_ver: 7, .. })));
        assert!(matches!(told[1], (_, MeshCommand::NoteLeft { at_ver: 7, .. })));
    }
}
