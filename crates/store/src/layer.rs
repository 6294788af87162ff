//! A store with something between it and its callers.
//!
//! Tests and the simulator change a few operations of a store and pass the rest through. A
//! [`Layer`] has a method for every operation of the contract, each of which passes it on; a layer
//! overrides what it changes, and [`Layered`] makes a [`Store`] of it. [`Layer::run`] sees every
//! operation that is passed on.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use conversation::dedupe::Seen;
use conversation::log::LogRow;
use conversation::projection::{InboxRow, StampedRow};
use conversation::sequencer::LoadedConversation;
use conversation::shard::{Beat, Cas, CoreLease, FenceMode, Lease, Nonce};
use futures_util::future::BoxFuture;
use wire::change::Recorded;
use wire::{
    ClientMsgId, ConversationId, Epoch, NodeId, Position, RegionId, ShardId, Slot, UserId, ZoneId,
};

use crate::contract::{
    CoreKey, Heads, Leases, Log, Mark, Marks, Projections, ScanPage, Store, StoreError,
};

/// A [`Layer`] over a store.
pub struct Layered<L>(pub L);

impl<L: Layer> Store for Layered<L> {
    fn at(&self, region: RegionId) -> Arc<dyn Store> {
        Arc::new(Self(self.0.over(self.0.below().at(region))))
    }

    fn refuses(&self, shard: ShardId) -> Option<String> {
        self.0.below().refuses(shard)
    }
}

/// An operation on its way to the store below.
pub type Operation<T> = BoxFuture<'static, Result<T, StoreError>>;

/// The operations of the contract, named once; the traits say what each is. An argument that the
/// contract borrows is written `ref &`: the operation takes its own copy of it.
macro_rules! layer {
    ($( $group:ident { $(
        fn $name:ident($( $arg:ident: $(ref $amp:tt)? $ty:ty ),*) -> $out:ty;
    )* } )*) => {
        /// What stands between a store and its callers. Every method passes the operation on.
        ///
        /// # Errors
        /// Every method: [`StoreError`].
        #[async_trait]
        pub trait Layer: Send + Sync + Sized + 'static {
            /// The store below.
            fn below(&self) -> &Arc<dyn Store>;

            /// The same layer over another view of the store ([`Store::at`]).
            fn over(&self, below: Arc<dyn Store>) -> Self;

            /// Runs an operation that is passed on.
            async fn run<T: Send + 'static>(
                &self,
                operation: Operation<T>,
            ) -> Result<T, StoreError> {
                operation.await
            }
            $($(
                #[doc = concat!("See [`", stringify!($group), "::", stringify!($name), "`].")]
                async fn $name(&self $(, $arg: $($amp)? $ty)*) -> Result<$out, StoreError> {
                    let store = Arc::clone(self.below());
                    $( let $arg = $arg.to_owned(); )*
                    self.run(Box::pin(async move {
                        store.$name($( $($amp)? $arg ),*).await
                    })).await
                }
            )*)*
        }
        $(
            #[async_trait]
            impl<L: Layer> $group for Layered<L> {$(
                async fn $name(&self $(, $arg: $($amp)? $ty)*) -> Result<$out, StoreError> {
                    self.0.$name($($arg),*).await
                }
            )*}
        )*
    };
}

layer! {
    Leases {
        fn lease(shard: ShardId) -> Lease;
        fn claim(
            shard: ShardId,
            observed: Epoch,
            owner: ref & NodeId,
            nonce: Nonce,
            fence_mode: FenceMode
        ) -> Cas;
        fn seal(shard: ShardId, epoch: Epoch, nonce: Nonce, start: Slot) -> Cas;
        fn release(shard: ShardId, epoch: Epoch, nonce: Nonce, end: Slot) -> Cas;
        fn close_fork(shard: ShardId, epoch: Epoch, nonce: Nonce, fork: Epoch) -> Cas;
        fn core_leases(zone: ZoneId, region: RegionId) -> Vec<CoreLease>;
        fn core_lease(of: CoreKey) -> Option<CoreLease>;
        fn register_core(zone: ZoneId, node: ref & NodeId, incarnation: Nonce) -> Cas;
        fn renew_core(zone: ZoneId, node: ref & NodeId, incarnation: Nonce, beat: Beat) -> Cas;
        fn break_core(of: CoreKey, beat: Beat) -> Cas;
        fn failed_over(zone: ZoneId) -> BTreeSet<RegionId>;
        fn set_failed_over(zone: ZoneId, region: RegionId, failed_over: bool) -> Cas;
    }
    Log {
        fn write_fence(shard: ShardId, epoch: Epoch) -> ();
        fn fence(shard: ShardId) -> Epoch;
        fn append(shard: ShardId, at: Position, frame: Bytes) -> ();
        fn read_log(shard: ShardId, from: Slot, limit: usize) -> Vec<LogRow>;
    }
    Marks {
        fn write_mark(shard: ShardId, mark: ref & Mark, at: Position) -> ();
        fn mark(shard: ShardId, mark: ref & Mark) -> Option<Position>;
        fn write_fresh_as_of(shard: ShardId, region: RegionId, as_of_ms: u64) -> ();
        fn fresh_as_of(shard: ShardId, region: RegionId) -> Option<u64>;
    }
    Projections {
        fn project(shard: ShardId, rows: Vec<StampedRow>) -> ();
        fn conversation(id: ConversationId) -> Option<LoadedConversation>;
        fn messages(id: ConversationId, from_seq: u64, to_seq: u64) -> Vec<Recorded>;
        fn placed_changes(
            id: ConversationId,
            after_ver: u64,
            limit: usize
        ) -> Vec<(Position, Recorded)>;
        fn dedupe(
            id: ConversationId,
            sender: ref & UserId,
            client_msg_id: ref & ClientMsgId
        ) -> Option<Seen>;
        fn inbox(user_stream: ConversationId) -> Vec<InboxRow>;
        fn heads(ids: ref & [ConversationId]) -> Vec<Option<Heads>>;
        fn conversations(shard: ShardId, after: Option<ConversationId>) -> ScanPage;
        fn read_cursors(user: ref & UserId, ids: ref & [ConversationId]) -> Vec<u64>;
    }
}
