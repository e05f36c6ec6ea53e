//! Steps that call an upstream which answers after 50 ms: how many a lane can have under way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use processor::ProcessorConfig;
use processor::wasm::EngineConfig;
use processor::web::{Networks, SystemNames, WebConfig, World};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use crate::lane::{Lanes, threads};
use crate::meter::load;
use crate::place;
use crate::report::{Row, Target};

const ANSWER_AFTER: Duration = Duration::from_millis(50);
const EVENTS: u64 = 10_000;

pub(crate) fn measure() -> Result<Vec<Row>> {
    let upstreams = threads(1)?;
    let address = upstreams.block_on(upstream(upstreams.handle().clone()))?;
    let runtime = threads(1)?;
    let config = WebConfig {
        networks: Networks::parse(&["127.0.0.1".to_owned()]).map_err(anyhow::Error::msg)?,
    };
    let world = World::new(
        runtime.handle().clone(),
        Arc::new(|_: &str, _: &str| Ok(None)),
        config,
        Arc::new(SystemNames),
    )
    .map_err(anyhow::Error::msg)?;
    let mut lanes = Lanes::new(runtime)?;
    let guest = std::fs::read(place::root().join("processor/tests/guests/http.wasm"))?;
    let fields =
        format!(", isolation: batch, limits: {{ time: 10s }}, http: {{ allow: [\"{address}\"] }}");
    lanes.apply("calls", &guest, &fields)?;
    let one = ProcessorConfig {
        lanes: 1,
        ..ProcessorConfig::default()
    };
    lanes.start(&one, EngineConfig::default(), Arc::new(world))?;
    let data = format!("{{\"urls\":[\"http://{address}/\"]}}");
    let graphs = ["calls".to_owned()];
    lanes.run(&graphs, 1_000, data.as_bytes())?;
    let took = lanes.run(&graphs, EVENTS, data.as_bytes())?;
    lanes.stop()?;
    let rate = EVENTS as f64 / took.as_secs_f64();
    let note = format!(
        "{EVENTS} executions, one lane, {} threads that wait, one request each to an upstream that answers after 50 ms; {}",
        one.waiting_max,
        load()
    );
    Ok(vec![
        Row::new("http.executions_per_s", rate, "1/s")
            .target(Target::AtLeast(1_000.0))
            .note(note),
    ])
}

async fn upstream(handle: Handle) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    handle.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    Ok(address)
}

/// One request after the other, none with a body.
async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        head.extend_from_slice(&buffer[..n]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            tokio::time::sleep(ANSWER_AFTER).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await?;
        }
    }
}
