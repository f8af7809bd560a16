# What PEMS has now against the mirror.
# shellcheck shell=bash

heading "PEMS and the mirror"

look_into_pems
table "SELECT o.code AS organization, count(p.*) FILTER (WHERE NOT p.deleted) AS \"in PEMS\",
              count(m.*) FILTER (WHERE m.deleted_at IS NULL) AS \"in the mirror\",
              count(*) FILTER (WHERE p.deleted AND m.deleted_at IS NOT NULL) AS \"deleted in both\",
              count(*) FILTER (WHERE p.deleted <> (m.deleted_at IS NOT NULL) OR p.version IS DISTINCT FROM m.version
                                  OR (NOT p.deleted AND p.data IS DISTINCT FROM m.data)) AS different
       FROM organization o JOIN pfa_mirror m ON m.organization_id = o.id
       FULL JOIN demo.pems_record p ON p.code = o.code AND p.pfa_id = m.pfa_id
       GROUP BY 1 ORDER BY 1 DESC"
say "  A sample of the edits:"
table "SELECT o.code AS organization, q.pfa_id, e.key AS field, left(v.data ->> e.key, 34) AS before,
              left(e.value, 44) AS edited, left(p.data ->> e.key, 44) AS \"in PEMS\", p.version AS v, m.version AS \"mirror v\"
       FROM (SELECT * FROM pfa_modification WHERE operation = 'UPDATE' ORDER BY demo.pick(pfa_id || 'sample', 100000) LIMIT 7) q
       JOIN organization o ON o.id = q.organization_id
       JOIN demo.pems_record p ON p.code = o.code AND p.pfa_id = q.pfa_id
       JOIN pfa_mirror m ON m.organization_id = q.organization_id AND m.pfa_id = q.pfa_id
       JOIN pems_mirror_version v ON v.organization_id = q.organization_id AND v.pfa_id = q.pfa_id AND v.version = q.base_version
       CROSS JOIN LATERAL jsonb_each_text(q.delta) e ORDER BY 1 DESC, 2, 3"

expect "every record is the same in PEMS and in the mirror, with the same version" \
    "$(sql "SELECT count(*) FROM pfa_mirror m JOIN organization o ON o.id = m.organization_id
            JOIN demo.pems_record p ON p.code = o.code AND p.pfa_id = m.pfa_id AND p.version = m.version
             AND p.data = m.data AND p.deleted = (m.deleted_at IS NOT NULL)")" 500
expect_true "every edit is in PEMS, value for value" \
    "SELECT bool_and(p.data @> q.delta) FROM pfa_modification q JOIN organization o ON o.id = q.organization_id
     JOIN demo.pems_record p ON p.code = o.code AND p.pfa_id = q.pfa_id WHERE q.operation = 'UPDATE'"
expect_true "the deleted record is gone from PEMS and marked in the mirror" \
    "SELECT p.deleted AND m.deleted_at IS NOT NULL FROM demo.pems_record p, pfa_mirror m
     WHERE p.pfa_id = 'PFA-10044' AND m.pfa_id = 'PFA-10044'"
