use std::sync::atomic::{AtomicBool, Ordering};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use net::Net;

use super::operator::{Operator, Order, Reloaded};
use super::*;

async fn started(readiness: impl Fn() -> Readiness + Send + Sync + 'static) -> Admin {
    started_with(readiness, None).await
}

async fn started_with(
    readiness: impl Fn() -> Readiness + Send + Sync + 'static,
    steering: Option<Steering>,
) -> Admin {
    let listener = net::OsNet.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let status = Arc::new(|| serde_json::json!({"node": "eu-west/core/1"}));
    Admin::start(AdminOptions { listener, readiness: Arc::new(readiness), status, steering })
        .unwrap()
}

async fn fetch(admin: &Admin, path: &str) -> (u16, String) {
    ask(admin, "GET", path, None).await
}

async fn ask(admin: &Admin, method: &str, path: &str, token: Option<&str>) -> (u16, String) {
    let client: Client<HttpConnector, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let mut request = hyper::Request::builder()
        .method(method)
        .uri(format!("http://{}{path}", admin.local_addr()));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = client.request(request.body(Empty::new()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn readiness_says_what_is_true_at_that_moment() {
    let draining = Arc::new(AtomicBool::new(false));
    let asked = draining.clone();
    let admin = started(move || {
        let reasons =
            if asked.load(Ordering::SeqCst) { vec!["draining".to_owned()] } else { vec![] };
        Readiness::unless(reasons)
    })
    .await;
    assert_eq!(fetch(&admin, "/readyz").await, (200, r#"{"ready":true,"reasons":[]}"#.into()));
    draining.store(true, Ordering::SeqCst);
    assert_eq!(
        fetch(&admin, "/readyz").await,
        (503, r#"{"ready":false,"reasons":["draining"]}"#.into())
    );
    assert_eq!(fetch(&admin, "/healthz").await, (200, "ok\n".into()));
    assert_eq!(fetch(&admin, "/status").await, (200, r#"{"node":"eu-west/core/1"}"#.into()));
    assert_eq!(fetch(&admin, "/elsewhere").await.0, 404);
}

#[tokio::test]
async fn what_is_counted_can_be_scraped_from_every_endpoint_of_the_process() {
    let (one, other) = (started(Readiness::default).await, started(Readiness::default).await);
    metrics::counter!("hearth_test_events_total", "region" => "eu-west").increment(3);
    metrics::histogram!("hearth_test_seconds").record(0.002);
    for admin in [&one, &other] {
        let (status, text) = fetch(admin, "/metrics").await;
        assert_eq!(status, 200);
        assert!(text.contains(r#"hearth_test_events_total{region="eu-west"} 3"#), "{text}");
        assert!(text.contains(r#"hearth_test_seconds_bucket{le="0.0025"} 1"#), "{text}");
    }
}

#[tokio::test]
async fn a_stopped_endpoint_is_gone_in_time() {
    let admin = started(Readiness::default).await;
    assert_eq!(fetch(&admin, "/readyz").await.0, 503, "not ready unless somebody says so");
    assert_eq!(admin.stop(Duration::from_secs(60)).await, Stopped::InTime);
    assert!(net::OsNet.connect(admin.local_addr()).await.is_err());
}

/// Remembers what it was asked.
#[derive(Default)]
struct Obedient {
    asked: std::sync::Mutex<Vec<&'static str>>,
    refuses: AtomicBool,
}

impl Operator for Obedient {
    fn drain(&self) -> Result<(), String> {
        self.asked.lock().unwrap().push("drain");
        if self.refuses.load(Ordering::SeqCst) { Err("it is starting".into()) } else { Ok(()) }
    }

    fn undrain(&self) -> Result<(), String> {
        self.asked.lock().unwrap().push("undrain");
        Ok(())
    }

    fn move_conversation(&self, conversation: String, region: String) -> Order {
        self.asked.lock().unwrap().push("move");
        let refused = self.refuses.load(Ordering::SeqCst);
        Box::pin(async move {
            if refused {
                Err("no such conversation".into())
            } else {
                Ok(serde_json::json!([conversation, region]))
            }
        })
    }

    fn fail_over(&self, region: String, accept_loss: bool) -> Order {
        self.asked.lock().unwrap().push("failover");
        Box::pin(async move { Ok(serde_json::json!([region, accept_loss])) })
    }

    fn fail_back(&self, region: String) -> Order {
        self.asked.lock().unwrap().push("failback");
        Box::pin(async move { Err(format!("{region} is lost")) })
    }

    fn end_sessions(&self, tenant: String, user: Option<String>) -> Order {
        self.asked.lock().unwrap().push("end");
        Box::pin(async move { Ok(serde_json::json!([tenant, user])) })
    }

    fn reload(&self) -> Reloaded {
        self.asked.lock().unwrap().push("reload");
        let refused =
            if self.refuses.load(Ordering::SeqCst) { vec!["the world".into()] } else { vec![] };
        Reloaded { taken: vec!["the certificate".into()], refused }
    }
}

#[tokio::test]
async fn orders_are_taken_from_whoever_shows_the_token_and_from_nobody_else() {
    let operator = Arc::new(Obedient::default());
    let steering = Steering { operator: operator.clone(), token: Some("secret".into()) };
    let admin = started_with(Readiness::default, Some(steering)).await;
    for token in [None, Some("wrong"), Some("")] {
        for path in [
            "/drain",
            "/undrain",
            "/reload",
            "/conversations/cnv_x/move/eu-west",
            "/regions/x/failover",
        ] {
            let (status, text) = ask(&admin, "POST", path, token).await;
            assert!(status == 401 && text.contains("token_file"), "{status} {text}");
        }
    }
    assert!(operator.asked.lock().unwrap().is_empty());
    assert_eq!(
        ask(&admin, "POST", "/drain", Some("secret")).await,
        (202, r#"{"draining":true}"#.into())
    );
    let moved = ask(&admin, "POST", "/conversations/cnv_x/move/eu-west", Some("secret")).await;
    assert_eq!(moved, (200, r#"["cnv_x","eu-west"]"#.into()));
    assert_eq!(
        ask(&admin, "POST", "/undrain", Some("secret")).await,
        (200, r#"{"draining":false}"#.into())
    );
    let (status, text) = ask(&admin, "POST", "/reload", Some("secret")).await;
    assert_eq!((status, text.as_str()), (200, r#"{"taken":["the certificate"],"refused":[]}"#));
    operator.refuses.store(true, Ordering::SeqCst);
    assert_eq!(ask(&admin, "POST", "/reload", Some("secret")).await.0, 409, "a part was refused");
    let refused = ask(&admin, "POST", "/drain", Some("secret")).await;
    assert_eq!(refused, (409, r#"{"message":"it is starting"}"#.into()));
    assert_eq!(
        *operator.asked.lock().unwrap(),
        ["drain", "move", "undrain", "reload", "reload", "drain"]
    );
    assert_eq!(ask(&admin, "GET", "/drain", Some("secret")).await.0, 405);
}

#[tokio::test]
async fn a_node_without_a_token_takes_no_orders_and_says_what_to_do() {
    let steering = Steering { operator: Arc::new(Obedient::default()), token: None };
    let admin = started_with(Readiness::default, Some(steering)).await;
    let (status, text) = ask(&admin, "POST", "/drain", Some("anything")).await;
    assert!(status == 403 && text.contains("[admin] token_file"), "{status} {text}");
    assert_eq!(fetch(&admin, "/healthz").await.0, 200);
}
