// One of the workers in `benchmarks.compare`: bbc/sqs-consumer on Node.js.
//
// Configured as its documentation says: a heartbeat, a back-off by visibility, and a stop that waits for running messages.

import { closeSync, openSync, writeSync } from "node:fs";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

import { SQSClient } from "@aws-sdk/client-sqs";
import { Consumer } from "sqs-consumer";

const env = process.env;
const visibility = Number(env.COMPARE_VISIBILITY_S);

function record(event, name) {
  const file = openSync(env.COMPARE_RECORD, "a");
  writeSync(file, `${(Date.now() / 1000).toFixed(3)} ${event} ${name}\n`);
  closeSync(file);
}

function askService() {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(env.COMPARE_NEEDED_PORT), "127.0.0.1", () => resolve(socket.destroy()));
    socket.on("error", reject);
  });
}

async function handleMessage(message) {
  const { name, kind, seconds } = JSON.parse(message.Body);
  record("start", name);
  if (kind === "hopeless" || kind === "fails") throw new Error(name);
  if (kind === "needs") await askService();
  await sleep(seconds * 1000);
  record("end", name);
  return message;
}

const consumer = Consumer.create({
  queueUrl: env.COMPARE_QUEUE_URL,
  sqs: new SQSClient({ endpoint: env.COMPARE_ENDPOINT, region: "us-east-1", useQueueUrlAsEndpoint: false }),
  handleMessage,
  batchSize: Number(env.COMPARE_CONCURRENCY),
  visibilityTimeout: visibility,
  heartbeatInterval: Math.floor(visibility / 3),
  terminateVisibilityTimeout: Number(env.COMPARE_BACKOFF_S),
  pollingCompleteWaitTimeMs: 30_000,
});
for (const event of ["error", "processing_error", "timeout_error"]) consumer.on(event, (error) => console.error(error.message));
consumer.on("stopped", () => process.exit(0));
process.once("SIGTERM", () => consumer.stop());
consumer.start();
console.log("ready");
