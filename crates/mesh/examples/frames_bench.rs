//! Frames a second and CPU a frame: a channel of the mesh beside a bare TCP loop, in the same run
//! on the same thread.
//!
//! `cargo run --release -p hearth-mesh --example frames_bench [frame bytes] [seconds a case]`
//!
//! Both ends run on one thread, so "a core" does all the work of both. The control writes the same
//! length-delimited frames in the same batches on a loopback TCP connection, without encryption.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hearth_mesh::{Mesh, MeshCa, MeshOptions};
use net::{Net, OsNet};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use wire::NodeId;
use wire::stream::Purpose;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Frames written before each flush.
const BATCHES: [u64; 3] = [1, 8, 64];

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let frame_bytes: usize = args.next().map_or(Ok(256), |text| text.parse())?;
    let seconds: f64 = args.next().map_or(Ok(3.0), |text| text.parse())?;
    let case =
        Case { frame: Bytes::from(vec![7; frame_bytes]), lasts: Duration::from_secs_f64(seconds) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{frame_bytes}-byte frames, both ends on one thread");
    println!("{:<28} {:>12} {:>14} {:>10}", "", "frames/s", "CPU us/frame", "to TCP");
    for batch in BATCHES {
        let tcp = runtime.block_on(case.over_tcp(batch))?;
        let mesh = runtime.block_on(case.over_mesh(batch))?;
        tcp.print(&format!("bare TCP, flush every {batch}"), None);
        mesh.print(&format!("mesh, flush every {batch}"), Some(&tcp));
    }
    Ok(())
}

struct Case {
    frame: Bytes,
    lasts: Duration,
}

struct Outcome {
    frames: u64,
    wall: Duration,
    cpu: Duration,
}

impl Outcome {
    fn rate(&self) -> f64 {
        self.frames as f64 / self.wall.as_secs_f64()
    }

    fn print(&self, what: &str, control: Option<&Self>) {
        let cpu_us = self.cpu.as_secs_f64() * 1e6 / self.frames as f64;
        let ratio = control
            .map_or(String::new(), |control| format!("{:.2}x", self.rate() / control.rate()));
        println!("{what:<28} {:>12.0} {cpu_us:>14.2} {ratio:>10}", self.rate());
    }
}

/// Runs a sender and a receiver until the sender's time is over and the receiver has all.
async fn measure(
    sender: impl Future<Output = Result<u64, Error>> + Send + 'static,
    receiver: impl Future<Output = Result<u64, Error>> + Send + 'static,
) -> Result<Outcome, Error> {
    let (began, cpu) = (Instant::now(), cpu_time());
    let sending = tokio::spawn(sender);
    let received = tokio::spawn(receiver).await??;
    assert_eq!(sending.await??, received, "every frame arrives");
    Ok(Outcome { frames: received, wall: began.elapsed(), cpu: cpu_time() - cpu })
}

impl Case {
    async fn over_mesh(&self, batch: u64) -> Result<Outcome, Error> {
        let ca = MeshCa::create()?;
        let start = |name: &str| -> Result<Mesh, Error> {
            let node: NodeId = name.parse()?;
            let identity = ca.issue(&node)?;
            Ok(Mesh::start(MeshOptions::new(
                node,
                identity,
                "127.0.0.1:0".parse()?,
                Arc::new(OsNet),
            ))?)
        };
        let (near, far) = (start("r1/edge/1")?, start("r2/core/1")?);
        near.add_peer(far.node(), far.local_addr());
        let (mut sender, _) = near.open(far.node(), Purpose::Control).await?.split();
        let (_, _, channel) = far.accept().await.ok_or("stopped")?;
        let (_, mut receiver) = channel.split();
        let (frame, lasts) = (self.frame.clone(), self.lasts);
        let sending = async move {
            let (began, mut sent) = (Instant::now(), 0);
            while began.elapsed() < lasts {
                for _ in 0..batch {
                    sender.feed(frame.clone()).await?;
                }
                sender.flush().await?;
                sent += batch;
            }
            sender.finish().await?;
            Ok(sent)
        };
        let receiving = async move {
            let mut received = 0;
            while receiver.recv().await?.is_some() {
                received += 1;
            }
            Ok(received)
        };
        measure(sending, receiving).await
    }

    async fn over_tcp(&self, batch: u64) -> Result<Outcome, Error> {
        let mut listener = OsNet.listen("127.0.0.1:0".parse()?).await?;
        let mut near = OsNet.connect(listener.local_addr()?).await?;
        let (far, _) = listener.accept().await?;
        let (frame, lasts) = (self.frame.clone(), self.lasts);
        let sending = async move {
            let (began, mut sent, mut buffer) = (Instant::now(), 0, Vec::new());
            while began.elapsed() < lasts {
                buffer.clear();
                for _ in 0..batch {
                    buffer.extend_from_slice(&u32::try_from(frame.len())?.to_be_bytes());
                    buffer.extend_from_slice(&frame);
                }
                near.write_all(&buffer).await?;
                // As in a server, others on this thread get their turn.
                tokio::task::yield_now().await;
                sent += batch;
            }
            near.shutdown().await?;
            Ok(sent)
        };
        let receiving = async move {
            let (mut far, mut received, mut body) =
                (BufReader::with_capacity(64 * 1024, far), 0, Vec::new());
            while let Ok(length) = far.read_u32().await {
                body.resize(length as usize, 0);
                far.read_exact(&mut body).await?;
                received += 1;
            }
            Ok(received)
        };
        measure(sending, receiving).await
    }
}

/// User and system time of this process, from /proc (in hundredths of a second); zero where there
/// is none.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 =
        after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
