// pull.js: what users write instead of a pull: reads the listing page by page, and writes each page with one
// statement, in a transaction of its own: batched upserts into mirror and history, as arrays, prepared once.
//
//   node pull.js CODE ORGANIZATION PAGE_SIZE    a full listing; says how many records it had
'use strict';
const http = require('node:http');
const { Client } = require('pg');

const base = new URL(process.env.PEMS_URL);
const agent = new http.Agent({ keepAlive: true });

function page(code, size, cursor) {
  const query = new URLSearchParams({ organizationCode: code, limit: size, ...(cursor && { cursor }) });
  const options = {
    agent, hostname: base.hostname, port: base.port, path: `${base.pathname}/pems/pfa?${query}`,
    headers: { Authorization: `Bearer ${process.env.TOKEN}` },
  };
  return new Promise((resolve, reject) => {
    http.get(options, (response) => {
      const pieces = [];
      response.on('data', (piece) => pieces.push(piece));
      response.on('end', () => {
        const text = Buffer.concat(pieces).toString();
        if (response.statusCode !== 200) return reject(new Error(`${response.statusCode}: ${text}`));
        resolve(JSON.parse(text));
      });
      response.on('error', reject);
    }).on('error', reject);
  });
}

const upsert = (organization, records) => ({
  name: 'upsert',
  text: `WITH written AS (
           INSERT INTO bench.mirror AS m (organization_id, pfa_id, version, data, last_synced_at)
           SELECT $1, r.pfa_id, r.version, r.data, clock_timestamp()
           FROM unnest($2::text[], $3::integer[], $4::jsonb[]) AS r (pfa_id, version, data)
           ON CONFLICT (organization_id, pfa_id) DO UPDATE
           SET version = excluded.version, data = excluded.data, last_synced_at = excluded.last_synced_at
           WHERE m.version < excluded.version OR (m.version = excluded.version AND m.data <> excluded.data)
           RETURNING m.organization_id, m.pfa_id, m.version, m.data
         )
         INSERT INTO bench.version (organization_id, pfa_id, version, data, source)
         SELECT w.organization_id, w.pfa_id, w.version, w.data, 'pems' FROM written w`,
  values: [organization, records.map((r) => r.pfaId), records.map((r) => r.version), records.map((r) => JSON.stringify(r.data))],
});

async function main() {
  const [code, organization, size] = process.argv.slice(2);
  const client = new Client();
  let count = 0;
  let cursor = null;
  await client.connect();
  do {
    const answer = await page(code, size, cursor);
    if (answer.records.length > 0) await client.query(upsert(organization, answer.records));
    count += answer.records.length;
    cursor = answer.nextCursor;
  } while (cursor);
  console.log(count);
  await client.end();
  agent.destroy();
}

main().catch((error) => { console.error(error); process.exit(1); });
