// boss.js: pg-boss, in batches.  Its own work() waits for the next tick of a clock (half a second at the least)
// between two batches; so this calls fetch() and complete(), which are public, without a pause.  Two such
// loops, each with half of the requests, so that one has requests under way while the other is at the database.
//
//   node boss.js migrate            makes its schema and the queue
//   node boss.js enqueue SET FIRST LAST   these edits of bench.edit, and the mark SET-FIRST, in one transaction
//   node boss.js work               works until it is told to stop; says "ready" first
'use strict';
const { Pool } = require('pg');
const PgBoss = require('pg-boss');
const { put, record, concurrency } = require('./put.js');

const QUEUE = 'put';
const LOOPS = 2;
const BATCH = 500;
const IDLE_MS = 50;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function one(pool, job) {
  const answer = await put(job.data.id, job.data.body);
  await pool.query(record(job.data.id, answer));
}

// Works through a batch, so many jobs at a time.
async function batch(pool, jobs) {
  let next = 0;
  const hand = async () => { while (next < jobs.length) await one(pool, jobs[next++]); };
  await Promise.all(Array.from({ length: concurrency / LOOPS }, hand));
}

async function loop(boss, pool) {
  for (;;) {
    const jobs = await boss.fetch(QUEUE, { batchSize: BATCH });
    if (jobs.length === 0) {
      await pause(IDLE_MS);
      continue;
    }
    await batch(pool, jobs);
    await boss.complete(QUEUE, jobs.map((job) => job.id));
  }
}

async function enqueue(boss, pool, name, first, last) {
  const client = await pool.connect();
  const db = { executeSql: (text, values) => client.query(text, values) };
  const { rows } = await client.query('SELECT id, body FROM bench.edit WHERE set_name = $1 AND n BETWEEN $2 AND $3', [name, first, last]);
  await client.query('BEGIN');
  await boss.insert(rows.map((data) => ({ name: QUEUE, data })), { db });
  await client.query('INSERT INTO bench.mark VALUES ($1)', [`${name}-${first}`]);
  await client.query('COMMIT');
  client.release();
}

async function main() {
  const [command, ...words] = process.argv.slice(2);
  const pool = new Pool({ max: concurrency });
  const boss = new PgBoss({ max: LOOPS + 1, migrate: command === 'migrate', supervise: false, schedule: false });
  boss.on('error', (error) => console.error(error.message));
  await boss.start();
  if (command === 'migrate') await boss.createQueue(QUEUE);
  if (command === 'enqueue') await enqueue(boss, pool, ...words);
  if (command === 'work') {
    const loops = Array.from({ length: LOOPS }, () => loop(boss, pool));
    console.log('ready');
    await Promise.all(loops);
  }
  await boss.stop({ graceful: false, wait: true });
  await pool.end();
}

process.on('SIGTERM', () => process.exit(0));
main().catch((error) => { console.error(error); process.exit(1); });
