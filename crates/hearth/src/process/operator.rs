//! What operators ask of a node while it runs.

use std::sync::Arc;

use node::{Moving, Operator, Reloaded};

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

    fn move_conversation(&self, conversation: String, region: String) -> Moving {
        let node = self.node().cloned().map_err(|error| error.to_string());
        let world = Arc::clone(&self.shared.site.world);
        Box::pin(async move {
            let moved = node?.move_conversation(&world, &conversation, &region).await;
            let moved = moved.map_err(|error| format!("{error:#}"))?;
            serde_json::to_value(moved).map_err(|error| error.to_string())
        })
    }

    fn reload(&self) -> Reloaded {
        self.read_again()
    }
}
