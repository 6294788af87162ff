//! The disk of a local mesh runs full, and has room again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hearth_stories::mesh::Mesh;
use hearth_stories::{eventually, http};
use serde_json::{Value, json};

const MIB: usize = 1024 * 1024;

/// A small file system of its own, to be put below a folder.
struct Small(PathBuf);

impl Small {
    /// None: it cannot be mounted here; a line says so.
    fn mount(mib: usize) -> Option<(Self, tempfile::TempDir)> {
        let dir = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(dir.path())
            .output();
        if mount.is_ok_and(|mount| mount.status.success()) {
            return Some((Self(dir.path().to_owned()), dir));
        }
        test_cluster::skip("a small file system can be mounted by root alone");
        None
    }

    /// Takes what is left of it, but for so much.
    fn fill(&self, but_mib: usize) {
        let mut bytes = Vec::new();
        while fs::write(self.ballast(), &bytes).is_ok() {
            bytes.resize(bytes.len() + MIB, 1);
        }
        bytes.truncate(bytes.len().saturating_sub((but_mib + 1) * MIB));
        fs::write(self.ballast(), &bytes).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy".as_ref(), self.0.as_os_str()]).status();
        let _ = fs::remove_dir(&self.0);
    }
}

fn statuses(mesh: &Mesh) -> Vec<Value> {
    let told = mesh.must(&["region", "status", "--json"]);
    told.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn is_private(dir: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(dir).unwrap().permissions().mode() & 0o077 == 0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_at_once_and_says_so_everywhere_until_there_is_room() {
    // 5 % of it is the reserve: 12 MiB.
    let Some((disk, dir)) = Small::mount(240) else { return };
    let mesh = Mesh::up_on(dir);
    assert!(is_private(&mesh.dir().join(&mesh.regions()[0])));
    let region = mesh.regions()[0].clone();
    let (base, admin) = (mesh.edge(&region), mesh.admin(&region));
    let token = mesh.token("ann");
    let group = crate::group(&base, &token, "full", &[]).await;
    let send = |name: String| {
        let message = json!({"conversation_id": group, "client_msg_id": name, "body": "hello"});
        http::post(&base, "/v1/messages", &token, message)
    };
    assert_eq!(send("before".into()).await.status, 201);

    disk.fill(6);
    let mut sends = 0;
    let refused = eventually("a refusal", || {
        sends += 1;
        let answer = send(format!("full-{sends}"));
        async { Some(answer.await).filter(|answer| answer.status != 201) }
    })
    .await;
    assert_eq!((refused.status, refused.code()), (503, "home_unavailable"), "{}", refused.body);
    // The edge's own words after thirty seconds would be others.
    let said = refused.body["detail"].as_str().unwrap();
    assert!(said.contains("is full"), "{said}");
    let ready = http::request("GET", &admin, "/readyz", None, "").await.unwrap();
    assert_eq!(ready.status, 503);
    assert!(ready.body.to_string().contains("store: the disk of the copy"), "{}", ready.body);
    for status in statuses(&mesh) {
        assert_eq!(status["store"]["state"], "full", "{status}");
    }
    assert!(mesh.must(&["region", "status"]).contains("store: the disk of the copy"));
    let full = format!("hearth_store_copy{{region=\"{region}\",state=\"full\"}} 1");
    eventually("a metric", || async {
        let metrics = http::request("GET", &admin, "/metrics", None, "").await.unwrap();
        let text = metrics.body.as_str().unwrap_or_default().to_owned();
        (text.contains(&full) && text.contains("hearth_store_free_bytes")).then_some(())
    })
    .await;

    fs::remove_file(disk.ballast()).unwrap();
    eventually("room", || {
        let answer = send(format!("full-{sends}"));
        async { Some(answer.await).filter(|answer| [200, 201].contains(&answer.status)) }
    })
    .await;
    let bodies = http::history(&base, &group, &token).await;
    assert_eq!(bodies.len(), sends + 1, "each once");
    drop(mesh);
}
