//! What operators ask of a node while it runs.

use node::{Operator, Reloaded};

use super::Process;

impl Operator for Process {
    fn drain(&self) -> Result<(), String> {
        let Some(drain) = self.shared.duty.drain()? else { return Ok(()) };
        let node = self.node().map_err(|error| error.to_string())?.clone();
        tracing::info!("draining");
        let process = self.clone();
        self.shared.tasks.spawn("drain", async move {
            let spread = process.shared.role.spread();
            if drain.run_until_cancelled(node.drain(spread)).await.is_some() {
                process.shared.duty.drained(&drain);
                tracing::info!("drained");
            }
        });
        Ok(())
    }

    fn undrain(&self) -> Result<(), String> {
        self.shared.duty.undrain(|| {
            if let Ok(node) = self.node() {
                node.undrain();
                tracing::info!("takes work again");
            }
        })
    }

    fn reload(&self) -> Reloaded {
        self.read_again()
    }
}
