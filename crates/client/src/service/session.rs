//! One session: what is sent to the socket and when. [`receive`] handles what comes back, [`sync`]
//! asks for what is missing, [`liveness`] tells when an edge is given up.

mod liveness;
mod receive;
mod sync;

use std::pin::pin;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::{self, Message};
use wire::client::event::GoawayPayload;
use wire::client::request::{Request, RequestBody};

use self::liveness::Liveness;
use self::sync::Syncs;
use super::{Service, Session};

/// Most frames that are read before what they caused is written.
const READ_BATCH: usize = 64;
/// A socket that takes nothing for so long is dead.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// For the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// How a session ended.
pub(super) enum End {
    /// By the program.
    Closed,
    /// For good, by the edge.
    Final(String),
    /// Broken.
    Lost(String),
    /// The edge talks, but nothing comes through it.
    Stalled(String),
    /// The edge asked us to go.
    Sent { why: String, alternatives: Vec<String>, not_before: Instant },
}

type Socket = WebSocketStream<net::Stream>;

/// State that ends with the session.
struct Live {
    liveness: Liveness,
    syncs: Syncs,
    goaway: Option<(Instant, GoawayPayload)>,
}

impl Service {
    /// Serves the session to its end.
    pub(super) async fn serve(&mut self, session: Session) -> End {
        let now = Instant::now();
        let mut live = Live {
            liveness: Liveness::new(
                Duration::from_millis(session.hello.heartbeat_ms.max(1_000)),
                self.options.silence_max,
                self.options.stall_max,
                self.stalls,
                now,
            ),
            syncs: Syncs::new(now),
            goaway: None,
        };
        self.want_everything();
        let (mut sink, mut stream) = session.socket.split();
        let end = loop {
            if let Err(end) = self.write(&mut sink, &mut live).await {
                break end;
            }
            if let Err(end) = self.wait(&mut stream, &mut live).await {
                break end;
            }
        };
        if matches!(end, End::Closed | End::Sent { .. }) {
            // Politeness: a socket that does not take it is dropped all the same.
            let _ = timeout(CLOSE_TIMEOUT, sink.close()).await;
        }
        match (end, live.goaway) {
            (End::Lost(_), Some((not_before, goaway))) => sent(not_before, goaway),
            (end, _) => end,
        }
    }

    /// Sends everything that may be sent now.
    async fn write(
        &mut self,
        sink: &mut SplitSink<Socket, Message>,
        live: &mut Live,
    ) -> Result<(), End> {
        let now = Instant::now();
        let mut sent_any = false;
        let sending = async {
            while let Some(frame) = self.outbox.next(now) {
                sink.feed(Message::Text(frame)).await?;
                sent_any = true;
            }
            while let Some(request) = self.next_sync(live, now) {
                sink.feed(Message::text(request.to_json())).await?;
                sent_any = true;
            }
            if !sent_any && now >= live.liveness.ping_at() {
                let ping = Request { id: None, body: RequestBody::Ping };
                sink.feed(Message::text(ping.to_json())).await?;
                sent_any = true;
            }
            // Also carries what tungstenite queued by itself: answers to pings and closes.
            sink.flush().await
        };
        match timeout(WRITE_TIMEOUT, sending).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(End::Lost(words(&error))),
            Err(_) => return Err(End::Lost("the edge takes nothing".into())),
        }
        if sent_any {
            live.liveness.sent(now);
        }
        let owed = self.outbox.is_owed() || live.syncs.are_open();
        live.liveness.waits(owed, !self.outbox.is_empty(), now);
        Ok(())
    }

    /// Waits until something happens, and handles it.
    async fn wait(&mut self, stream: &mut SplitStream<Socket>, live: &mut Live) -> Result<(), End> {
        let wakes_at = self.wakes_at(live);
        let events = self.events.clone();
        let cancel = self.inputs.cancel.clone();
        let follows = self.inputs.follows.clone();
        tokio::select! {
            message = stream.next() => {
                self.receive(message, live)?;
                for _ in 1..READ_BATCH {
                    let Some(message) = stream.next().now_or_never() else { break };
                    self.receive(message, live)?;
                }
            }
            draft = self.inputs.drafts.recv() => match draft {
                Some(draft) => {
                    self.accept(draft);
                    while let Ok(draft) = self.inputs.drafts.try_recv() {
                        self.accept(draft);
                    }
                }
                None => return Err(End::Closed),
            },
            () = follows.changed.notified() => self.follow(),
            // The messages left at the edge are in `pending_syncs`: the next turn asks for them.
            () = events.room() => self.starved = false,
            () = pin!(sleep_until(wakes_at)) => self.check_time(live)?,
            () = cancel.cancelled() => return Err(End::Closed),
        }
        Ok(())
    }

    fn wakes_at(&self, live: &Live) -> Instant {
        let sync = self.may_sync().then_some(live.syncs.not_before);
        let leave = live.goaway.as_ref().map(|(at, _)| *at);
        let wakes = [sync, leave, self.outbox.wakes_at()].into_iter().flatten();
        wakes.fold(live.liveness.wakes_at(), Instant::min)
    }

    fn check_time(&mut self, live: &mut Live) -> Result<(), End> {
        let now = Instant::now();
        if live.liveness.stalled_at().is_some_and(|at| at <= now) {
            self.stalls += 1;
            return Err(End::Stalled("nothing is acknowledged through this edge".into()));
        }
        if now >= live.liveness.lost_at() {
            return Err(End::Lost(format!(
                "the edge was silent for {} s",
                live.liveness.silence_timeout().as_secs()
            )));
        }
        match live.goaway.take() {
            Some((at, goaway)) if at <= now => Err(sent(at, goaway)),
            waiting => {
                live.goaway = waiting;
                Ok(())
            }
        }
    }
}

fn sent(not_before: Instant, goaway: GoawayPayload) -> End {
    let why = format!("the edge sends its sessions elsewhere: {}", goaway.reason);
    End::Sent { why, alternatives: goaway.alternatives, not_before }
}

fn words(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::Io(error) => error.to_string(),
        tungstenite::Error::ConnectionClosed
        | tungstenite::Error::AlreadyClosed
        | tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            "the edge hung up".into()
        }
        error => error.to_string(),
    }
}
