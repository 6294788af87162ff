//! What operators ask of a node while it runs.

use std::sync::Arc;

use node::{Operator, Order, Reloaded};
use serde::Serialize;
use topology::World;

use super::Process;
use crate::assembly::{Failing, Node};

impl Operator for Process {
    fn drain(&self) -> Result<(), String> {
        let Some(drain) = self.shared.lifecycle.drain()? else { return Ok(()) };
        let node = self.node().map_err(|error| error.to_string())?.clone();
        tracing::info!("draining");
        let process = self.clone();
        self.shared.tasks.spawn("drain", async move {
            let spread = process.shared.role.spread();
            if drain.run_until_cancelled(node.drain(spread)).await.is_some() {
                process.shared.lifecycle.drained(&drain);
                tracing::info!("drained");
            }
        });
        Ok(())
    }

    fn undrain(&self) -> Result<(), String> {
        self.shared.lifecycle.undrain(|| {
            if let Ok(node) = self.node() {
                node.undrain();
                tracing::info!("takes work again");
            }
        })
    }

    fn move_conversation(&self, conversation: String, region: String) -> Order {
        self.order(move |node, world| async move {
            node.move_conversation(&world, &conversation, &region).await
        })
    }

    fn fail_over(&self, region: String, accept_loss: bool) -> Order {
        self.order(move |node, world| async move {
            node.fail(&world, &region, Failing::Over { accept_loss }).await
        })
    }

    fn fail_back(&self, region: String) -> Order {
        self.order(
            move |node, world| async move { node.fail(&world, &region, Failing::Back).await },
        )
    }

    fn end_sessions(&self, tenant: String, user: Option<String>) -> Order {
        self.order(move |node, _| async move { node.end_sessions(&tenant, user.as_deref()) })
    }

    fn reload(&self) -> Reloaded {
        self.read_again()
    }
}

impl Process {
    fn order<T: Serialize, F>(
        &self,
        order: impl FnOnce(Node, Arc<World>) -> F + Send + 'static,
    ) -> Order
    where
        F: Future<Output = anyhow::Result<T>> + Send,
    {
        let node = self.node().cloned().map_err(|error| error.to_string());
        let world = Arc::clone(&self.shared.site.world);
        Box::pin(async move {
            let done = order(node?, world).await.map_err(|error| format!("{error:#}"))?;
            serde_json::to_value(done).map_err(|error| error.to_string())
        })
    }
}
