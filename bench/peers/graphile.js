// graphile.js: graphile-worker, configured as the page "Performance" of its documentation does for speed: a local
// queue of 500, completion in batches without delay, and a pool of as many connections as jobs run at a time,
// plus two.
//
//   node graphile.js migrate    makes its schema
//   node graphile.js work       works until it is told to stop; says "ready" first
'use strict';
const { Pool } = require('pg');
const { Logger, run, runMigrations } = require('graphile-worker');
const { put, record, concurrency } = require('./put.js');

// What goes wrong is printed; each job's start and end is not.
const logger = new Logger(() => (level, message) => {
  if (level === 'error' || level === 'warning') console.error(message);
});

async function work(pgPool) {
  const preset = {
    worker: {
      concurrentJobs: concurrency, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0,
    },
  };
  const taskList = {
    put: async (payload, helpers) => {
      const answer = await put(payload.id, payload.body);
      await helpers.withPgClient((client) => client.query(record(payload.id, answer)));
    },
  };
  const runner = await run({ preset, pgPool, taskList, logger });
  console.log('ready');
  await runner.promise;
}

async function main() {
  const pgPool = new Pool({ max: concurrency + 2 });
  // handlers that graphile-worker asks for: of connections that are idle, and of each one
  pgPool.on('error', (error) => console.error(error.message));
  pgPool.on('connect', (client) => client.on('error', (error) => console.error(error.message)));
  if (process.argv[2] === 'migrate') await runMigrations({ pgPool, logger });
  else await work(pgPool);
  await pgPool.end();
}

main().catch((error) => { console.error(error); process.exit(1); });
