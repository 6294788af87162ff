use std::sync::atomic::{AtomicBool, Ordering};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use net::Net;

use super::*;

async fn started(readiness: impl Fn() -> Readiness + Send + Sync + 'static) -> Admin {
    let listener = net::OsNet.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    Admin::start(AdminOptions { listener, readiness: Arc::new(readiness) }).unwrap()
}

async fn fetch(admin: &Admin, path: &str) -> (u16, String) {
    let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let uri = format!("http://{}{path}", admin.local_addr()).parse().unwrap();
    let response = client.get(uri).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn readiness_says_what_is_true_at_that_moment() {
    let draining = Arc::new(AtomicBool::new(false));
    let asked = draining.clone();
    let admin = started(move || {
        let reasons = if asked.load(Ordering::SeqCst) { vec!["draining".to_owned()] } else { vec![] };
        Readiness::unless(reasons)
    })
    .await;
    assert_eq!(fetch(&admin, "/readyz").await, (200, r#"{"ready":true,"reasons":[]}"#.into()));
    draining.store(true, Ordering::SeqCst);
    assert_eq!(fetch(&admin, "/readyz").await, (503, r#"{"ready":false,"reasons":["draining"]}"#.into()));
    assert_eq!(fetch(&admin, "/healthz").await, (200, "ok\n".into()));
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
