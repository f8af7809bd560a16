# Read sync in the situations of real life: own writes that come back, replicas that lag, records that go and come back, a
# PEMS that was restored, records that cannot be stored, edits while the mirror moves under them.
#
# Each subtest has an organization of its own.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Pulls;
use PemsSync::Test;
use Test::More;
use Time::HiRes qw(sleep);

my $json  = JSON::PP->new->canonical->allow_nonref->utf8(0);
my $true  = JSON::PP::true;

my $t = PemsSync::Test->new('pull_scenarios',
    settings => { rate_limit => 0, retry_delay => '100ms', poll_interval => '1h', pull_page_size => 40 });
my $fake = $t->fake;
my $p    = PemsSync::Pulls->new($t);

sub counts { return PemsSync::Pulls::counts(@_) }
sub id_of  { return PemsSync::Test::id_of(@_) }

# ---------- our own writes ----------

# Wait until PEMS has made so many changes of ours to a record.
sub written_in_pems
{
    my ($code, $pfa_id, $count) = @_;
    return $t->wait_until(sub { $fake->changes(organizationCode => $code, pfaId => $pfa_id, by => 'client') >= ($count // 1) }, what => 'the write in PEMS');
}

# Longer than a pull takes on a busy machine; milliseconds.
use constant ANSWER => 12_000;

subtest 'our own write is seen by a pull before its answer is there' => sub {
    $p->organization('OWN', 5);
    my @cases = ([ 'PFA-0001', 'full' ], [ 'PFA-0002', 'delta' ], [ 'PFA-0003', 'delta', 'PFA-0003' ]);
    my @edits;
    $fake->fault({ organizationCode => 'OWN', call => 'update', count => 3, delayAfterApplyMs => ANSWER });
    for my $case (@cases)
    {
        my ($pfa_id, $mode, $single) = @$case;
        push @edits, my $edit = $t->commit_edit('OWN', $pfa_id, { monthlyRate => 42 }, by => 'zoe@example.com', reason => 'because');
        written_in_pems('OWN', $pfa_id);
        is($p->pull('OWN', mode => $mode, pfa_id => $single)->{updated}, 1, "$pfa_id: the pull sees it");
        is($t->modification($edit)->{pems_version}, undef, 'before its answer is there');
    }
    for my $i (0 .. 2)
    {
        my $pfa_id = $cases[$i][0];
        ok($t->wait_status($edits[$i], 'synced'), "$pfa_id is synced");
        is($p->history('OWN', $pfa_id), '1 pems pems.user@example.com, 2 write zoe@example.com because', 'history: a write, with author and reason');
        is($t->story($edits[$i])->{requests}, 'PUT v1 200', 'one request');
        $t->mirror_is_pems('OWN', $pfa_id);
    }
    is($t->sql("SELECT count(*) FROM pfa_sync_conflict WHERE organization_id = 'org-own'"), 0, 'no conflict');
    is(counts($p->pull('OWN', mode => 'full')), 'completed unchanged 5', 'afterwards it is nothing new');
};

subtest 'our own write, and another one on top, are seen before the answer' => sub {
    $p->organization('TOP', 3);
    $fake->fault({ organizationCode => 'TOP', pfaId => 'PFA-0001', call => 'update', count => 1, delayAfterApplyMs => ANSWER / 2 });
    my $edit = $t->commit_edit('TOP', 'PFA-0001', { monthlyRate => 42 }, by => 'zoe@example.com');
    written_in_pems('TOP', 'PFA-0001');
    $fake->edit({ organizationCode => 'TOP', pfaId => 'PFA-0001', changes => { model => 'other' } });
    is(counts($p->pull('TOP')), 'completed updated 1 unchanged 2', 'the pull sees version 3');
    ok($t->wait_status($edit, 'synced'), 'the edit is synced');
    $t->mirror_is_pems('TOP', 'PFA-0001');
    is($t->mirror('TOP', 'PFA-0001')->{version}, 3, 'the mirror has both');
    is($t->sql("SELECT count(*) FROM pfa_sync_conflict WHERE organization_id = 'org-top'"), 0, 'no conflict');
};

subtest 'our own delete is seen before its answer' => sub {
    $p->organization('DEL', 2);
    $fake->fault({ organizationCode => 'DEL', pfaId => 'PFA-0001', call => 'delete', count => 1, delayAfterApplyMs => ANSWER / 2 });
    my $edit = $t->commit_edit('DEL', 'PFA-0001', {}, operation => 'DELETE');
    written_in_pems('DEL', 'PFA-0001');
    is(counts($p->pull('DEL')), 'completed deleted 1 unchanged 1', 'the pull sees the tombstone');
    ok($t->wait_status($edit, 'synced'), 'the delete is synced');
    ok(defined $t->mirror('DEL', 'PFA-0001')->{deleted_at}, 'deleted in the mirror');
    is(counts($p->pull('DEL', mode => 'full')), 'completed unchanged 2', 'afterwards it is nothing new');
};

subtest 'the answer of our own write is lost, and a pull brings it' => sub {
    $p->organization('LOST', 2);
    $fake->fault({ organizationCode => 'LOST', pfaId => 'PFA-0001', call => 'update', count => 1, delayAfterApplyMs => ANSWER / 2, status => 503, apply => $true });
    my $edit = $t->commit_edit('LOST', 'PFA-0001', { monthlyRate => 42 }, by => 'zoe@example.com', reason => 'because');
    written_in_pems('LOST', 'PFA-0001');
    is($p->pull('LOST')->{updated}, 1, 'the pull sees it');
    ok($t->wait_status($edit, 'synced'), 'it is synced');
    is(scalar($fake->changes(organizationCode => 'LOST', by => 'client')), 1, 'written once');
    is($t->sql("SELECT count(*) FROM pfa_sync_conflict WHERE organization_id = 'org-lost'"), 0, 'no conflict');
};

# ---------- versions ----------

subtest 'a replica that lags' => sub {
    $p->organization('LAG', 50);
    $p->in_pems('LAG', 'PFA-0001', monthlyRate => 1);
    $p->pull('LAG');
    $fake->lag('LAG', versions => 1, count => 2);
    my $job = $p->pull('LAG', mode => 'full');
    is(counts($job), 'completed unchanged 49 stale 1', 'an old version is counted');
    is($t->mirror('LAG', 'PFA-0001')->{version}, 2, 'and not stored');
    is($p->history('LAG', 'PFA-0001'), '1 pems pems.user@example.com, 2 pems pems.user@example.com', 'nor in the history');
    is(scalar($p->problems(qr/LAG.*lower version/)), 1, 'pems_health() says so') or diag explain [ $p->problems(qr/./) ];
    is(counts($p->pull('LAG', mode => 'full')), 'completed unchanged 50', 'later it is well');
    is(scalar($p->problems(qr/LAG/)), 0, 'pems_health() too');
};

subtest 'PEMS was restored from a backup' => sub {
    $p->organization('BAK', 50);
    $fake->edit(map { { organizationCode => 'BAK', pfaId => $_, changes => { monthlyRate => 2 } } } qw(PFA-0001 PFA-0002 PFA-0003));
    $fake->edit({ organizationCode => 'BAK', pfaId => 'PFA-0004', delete => $true });
    $p->pull('BAK');
    my $draft = $t->edit('BAK', 'PFA-0002', { monthlyRate => 77 });
    $fake->restore('BAK', versionsBack => 1);
    my $job = $p->pull('BAK', mode => 'full');
    is(counts($job), 'completed unchanged 46 stale 4', 'lower versions are counted');
    is($t->mirror('BAK', 'PFA-0001')->{version}, 2, 'and not stored');
    is(scalar($p->problems(qr/BAK.*4 records.*adopt/)), 1, 'pems_health() says what to do') or diag explain [ $p->problems(qr/./) ];
    $job = $p->pull('BAK', mode => 'adopt');
    is(counts($job), 'completed updated 4 unchanged 46', 'adopt takes them');
    $p->same_as_pems('BAK');
    is($t->sql("SELECT string_agg(pfa_id || ' ' || actor || ' ' || (job_id = '$job->{id}') || ' ' || error, ', ' ORDER BY pfa_id) FROM pems_audit_log WHERE event_type = 'ADOPTED' AND organization_id = 'org-bak'"),
        join(', ', map { "PFA-000$_ pems_sync true PEMS's version 1 took the place of version 2" } 1 .. 4), 'with an audit event each');
    is(scalar($p->problems(qr/BAK/)), 0, 'all is well');
    # the draft's base is version 2, whose monthlyRate the user saw as 2; PEMS says 5500 now
    $t->commit('BAK', [$draft]);
    ok($t->wait_status($draft, 'conflict'), 'a draft on what is gone is a conflict');
    is($fake->record('BAK', 'PFA-0002')->{data}{monthlyRate}, 5500, 'PEMS keeps its value');
    $t->resolve($t->conflict($draft)->{id}, 'use_pems');
};

subtest 'the same version with other data' => sub {
    $p->organization('SAME', 3);
    my $draft  = $t->edit('SAME', 'PFA-0001', { monthlyRate => 77 });
    my $draft2 = $t->edit('SAME', 'PFA-0002', { monthlyRate => 77 });
    $p->in_pems('SAME', 'PFA-0001', { version => 1 }, monthlyRate => 11);
    $p->in_pems('SAME', 'PFA-0002', { version => 1 }, model => 'other');
    is(counts($p->pull('SAME')), 'completed updated 2 unchanged 1', 'the mirror takes it');
    is($t->mirror('SAME', 'PFA-0001')->{data}{monthlyRate}, 11, 'it has the other data');
    is($t->sql("SELECT string_agg(version || ' ' || (data ->> 'monthlyRate'), ', ' ORDER BY state_seq) FROM pems_mirror_version WHERE organization_id = 'org-same' AND pfa_id = 'PFA-0001'"),
        '1 5500, 1 11', 'the history has both');
    $t->commit('SAME', [ $draft, $draft2 ]);
    ok($t->wait_status($draft, 'conflict'), 'a draft of the same field is a conflict');
    is($fake->record('SAME', 'PFA-0001')->{data}{monthlyRate}, 11, 'PEMS keeps its value');
    ok($t->wait_status($draft2, 'synced'), 'a draft of another field is sent');
    is($fake->record('SAME', 'PFA-0002')->{data}{model}, 'other', 'and the other field stays');
    $t->resolve($t->conflict($draft)->{id}, 'use_pems');
};

subtest 'edits while the mirror moves' => sub {
    $p->organization('MOVE', 4);
    my $same  = $t->edit('MOVE', 'PFA-0001', { monthlyRate => 77 });
    my $other = $t->edit('MOVE', 'PFA-0002', { monthlyRate => 77 });
    $t->sql("SELECT pems_pause('org-move', 'test')");
    my $queued = $t->commit_edit('MOVE', 'PFA-0003', { monthlyRate => 77 });
    my $gone   = $t->commit_edit('MOVE', 'PFA-0004', { monthlyRate => 77 });
    $fake->edit((map { { organizationCode => 'MOVE', pfaId => $_, changes => { monthlyRate => 11 } } } qw(PFA-0001 PFA-0003)),
        { organizationCode => 'MOVE', pfaId => 'PFA-0002', changes => { model => 'other' } }, { organizationCode => 'MOVE', pfaId => 'PFA-0004', delete => $true });
    my $job = $p->begin('MOVE', mode => 'full');
    sleep 0.5;
    is($p->job($job)->{status}, 'running', 'a paused organization is not pulled');
    $t->is_calm('while a pull of a paused organization waits');
    # no write may leave before the pull is done
    $fake->fault({ organizationCode => 'MOVE', call => 'update', delayMs => 1500, count => 1, pfaId => 'PFA-0003' });
    $t->sql("SELECT pems_resume('org-move')");
    is(counts($p->end($job)), 'completed updated 3 deleted 1', 'the mirror moves');
    is($t->sql("SELECT string_agg(base_version::text, ' ') FROM pfa_modification WHERE organization_id = 'org-move'"), '1 1 1 1', 'each edit keeps its base');
    $t->commit('MOVE', [ $same, $other ]);
    ok($t->wait_status($same,   'conflict'), 'the same field: a conflict');
    ok($t->wait_status($queued, 'conflict'), 'the same of a queued one');
    ok($t->wait_status($gone,   'conflict'), 'and of a record that is gone');
    ok($t->wait_status($other,  'synced'),   'another field is merged');
    is($fake->record('MOVE', $_)->{data}{monthlyRate}, 11, "$_: PEMS keeps its value") for qw(PFA-0001 PFA-0003);
    is_deeply([ @{ $fake->record('MOVE', 'PFA-0002')->{data} }{qw(monthlyRate model)} ], [ 77, 'other' ], 'PFA-0002 has both');
    $t->resolve($t->conflict($_)->{id}, 'use_pems') for $same, $queued, $gone;
};

# ---------- listings ----------

subtest 'an unchanged organization is read without a write' => sub {
    my $state = q{SELECT md5(string_agg(m.xmin::text || m.ctid::text, ',' ORDER BY m.pfa_id)), (SELECT md5(string_agg(v.xmin::text || v.ctid::text, ',' ORDER BY v.pfa_id, v.state_seq)) FROM pems_mirror_version v WHERE v.organization_id = 'org-calm') FROM pfa_mirror m WHERE m.organization_id = 'org-calm'};
    $p->organization('CALM', 500);
    $fake->edit({ organizationCode => 'CALM', pfaId => 'PFA-0001', delete => $true });
    $p->pull('CALM');
    my $before = $t->sql($state);
    is(counts($p->pull('CALM', mode => 'full')), 'completed unchanged 500', 'a full pull');
    is($t->sql($state), $before, 'no row of mirror or history was written');
    is(counts($p->pull('CALM', mode => 'adopt')), 'completed unchanged 500', 'adopt');
    is($t->sql($state), $before, 'the same');
};

subtest 'pages that shift while they are read' => sub {
    $p->organization('SHIFT', 120);
    $fake->fault({ organizationCode => 'SHIFT', page => 1, count => 1,
        thenEdit => [ (map { { organizationCode => 'SHIFT', pfaId => sprintf('PFA-%04d', $_), changes => { monthlyRate => 1 } } } 1, 2, 60, 119),
            { organizationCode => 'SHIFT', pfaId => 'NEW-1', data => PemsSync::Test::record_data('NEW-1') },
            { organizationCode => 'SHIFT', pfaId => 'PFA-0080', delete => $true } ] });
    my $job = $p->pull('SHIFT', mode => 'full');
    is($job->{status}, 'completed', 'a full pull') or diag explain $job;
    $p->same_as_pems('SHIFT', 'what was written meanwhile is there');
    # pages by number: the second begins three records too late, and the third shows three twice
    $fake->fault({ organizationCode => 'SHIFT', page => 2, shift => 3, count => 1 });
    $fake->edit({ organizationCode => 'SHIFT', pfaId => 'PFA-0044', changes => { monthlyRate => 3 } });
    $job = $p->pull('SHIFT', mode => 'full');
    is($job->{deleted}, 0, 'records that are missed are not deleted');
    $p->same_as_pems('SHIFT', 'they are asked for');
    $fake->fault({ organizationCode => 'SHIFT', page => 2, shift => -3, count => 1 });
    $job = $p->pull('SHIFT', mode => 'full');
    is(counts($job), 'completed unchanged ' . (121 + 3), 'records that come twice make no difference');
    $p->nothing_left;
};

subtest 'late commits and clocks that differ' => sub {
    $p->organization('TIME', 50);
    # a transaction in PEMS that began before the last listing and commits after it
    $p->in_pems('TIME', 'PFA-0001', { updatedAt => $t->sql("SELECT to_char((clock_timestamp() - interval '4 minutes') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')") }, monthlyRate => 1);
    is($p->pull('TIME')->{updated}, 1, 'a late commit is found');
    for my $skew (3600, -3600)
    {
        my $code = $skew > 0 ? 'EARLY' : 'LATE';
        $fake->skew_clock($skew);
        $p->organization($code, 10);
        for my $round (1, 2)
        {
            $p->in_pems($code, 'PFA-0002', monthlyRate => $round);
            is($p->pull($code)->{updated}, 1, "PEMS's clock goes $skew s ahead: what changed is found");
        }
        $fake->skew_clock(0);
        for my $round (3, 4)
        {
            $p->in_pems($code, 'PFA-0002', monthlyRate => $round);
            is($p->pull($code)->{updated}, 1, 'and when it is right again');
        }
        $p->same_as_pems($code);
    }
    $p->same_as_pems('TIME');
};

subtest 'one record that is dated ahead' => sub {
    my $ahead = $t->sql("SELECT to_char((clock_timestamp() + interval '20 hours') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')");
    $p->organization('AHEAD', 50);
    for my $at ($ahead, '2999-01-01T00:00:00Z')
    {
        $p->in_pems('AHEAD', 'PFA-0001', { updatedAt => $at }, description => $at);
        is($p->pull('AHEAD')->{updated}, 1, "$at: it arrives");
        $p->in_pems('AHEAD', 'PFA-0002', description => $at);
        is($p->pull('AHEAD')->{updated}, 1, 'what changes after it is found');
        is(counts($p->pull('AHEAD', mode => 'full')), 'completed unchanged 50', 'also after a full pull');
        $p->in_pems('AHEAD', 'PFA-0003', description => $at);
        is($p->pull('AHEAD')->{updated}, 1, 'what changes is found');
    }
};

# ---------- deleted ----------

subtest 'tombstones, and records that come back' => sub {
    $p->organization('TOMB', 30);
    $fake->edit({ organizationCode => 'TOMB', pfaId => 'PFA-0001', delete => $true });
    is($p->pull('TOMB')->{deleted}, 1, 'a delta brings a tombstone');
    ok(defined $t->mirror('TOMB', 'PFA-0001')->{deleted_at}, 'it is marked');
    is(counts($p->pull('TOMB', mode => 'full')), 'completed unchanged 30', 'once');
    $p->in_pems('TOMB', 'PFA-0001', monthlyRate => 9);
    is($p->pull('TOMB')->{updated}, 1, 'it comes back');
    is($t->mirror('TOMB', 'PFA-0001')->{deleted_at}, undef, 'and is no more marked');
    $p->in_pems('TOMB', 'SHORT', {});
    $fake->edit({ organizationCode => 'TOMB', pfaId => 'SHORT', delete => $true });
    is($p->pull('TOMB')->{created}, 0, 'a tombstone of a record that the mirror never had makes nothing');
    is($t->sql("SELECT count(*) FROM pfa_mirror WHERE pfa_id = 'SHORT'"), 0, 'no row');
};

subtest 'a record that is missing' => sub {
    $p->organization('MISS', 100);
    my $record = $fake->record('MISS', 'PFA-0007');
    $fake->forget('MISS', 'PFA-0007');
    my $mark = $fake->mark;
    is(counts($p->pull('MISS', mode => 'full')), 'completed deleted 1 unchanged 99', 'it is marked as deleted');
    is(join(' ', map { "$_->{pfaId} $_->{status}" } $fake->requests(call => 'read', since => $mark)), 'PFA-0007 404', 'after a read');
    is(counts($p->pull('MISS', mode => 'full')), 'completed unchanged 99', 'once');
    # as it was: a right that was taken and given back
    $fake->edit({ organizationCode => 'MISS', pfaId => 'PFA-0007', data => $record->{data}, version => 1 });
    is($p->pull('MISS')->{updated}, 1, 'it comes back in the same version');
    is($t->mirror('MISS', 'PFA-0007')->{deleted_at}, undef, 'alive');
    # the listing leaves it out, and PEMS has it
    $fake->replace_records('MISS', { 'PFA-0008' => '' }, count => 3);
    is(counts($p->pull('MISS', mode => 'full')), 'completed unchanged 100', 'one that PEMS has is asked for, and stays');
    # one that was made by us, or by the application, after the listing began, or whose edit waits
    $p->nothing_left;
};

subtest 'a listing that is cut in half' => sub {
    $p->organization('HALF', 100);
    my $watermark = $p->watermark('HALF');
    $p->in_pems('HALF', 'PFA-0001', monthlyRate => 5);
    my $id = $fake->truncate_listing('HALF', 1);
    my $job = $p->pull('HALF', mode => 'full');
    is($job->{status}, 'completed_with_failures', 'it does not end well');
    is($job->{errorCode}, 'TOO_MANY_MISSING', 'because too many are missing');
    is($t->sql("SELECT count(*) FROM pfa_mirror WHERE organization_id = 'org-half' AND deleted_at IS NULL"), 100, 'nothing is deleted');
    is($p->watermark('HALF'), $watermark, 'the watermark does not move');
    is(scalar($p->problems(qr/HALF.*\b60 of 100 records/)), 1, 'pems_health() says so') or diag explain [ $p->problems(qr/./) ];
    is(scalar($fake->requests(organizationCode => 'HALF', call => 'read')), 0, 'nothing is asked for');
    $fake->clear_faults($id);
    is($p->pull('HALF')->{status}, 'completed', 'a delta ends well');
    is(scalar($p->problems(qr/HALF.*full listing did not end well/)), 1, 'which does not mend it');
    is($p->pull('HALF', mode => 'full')->{status}, 'completed', 'the next full one ends well');
    is(scalar($p->problems(qr/HALF/)), 0, 'and pems_health() says nothing');
    $p->same_as_pems('HALF');
    $p->nothing_left;
};

# ---------- what cannot be stored ----------

subtest 'RIO is not RIO2' => sub {
    $p->organization('RIO', 3);
    $p->organization('RIO2', 5);
    is($t->sql("SELECT string_agg(n::text, ' ') FROM (SELECT count(*) AS n FROM pfa_mirror WHERE organization_id IN ('org-rio', 'org-rio2') GROUP BY organization_id ORDER BY organization_id) c"), '3 5', 'each has its own');
    my $stranger = PemsSync::Pulls::raw(organizationCode => 'RIO2', pfaId => 'PFA-0001', version => 9, data => { stranger => 1 });
    my $good     = PemsSync::Pulls::raw(organizationCode => 'RIO',  pfaId => 'PFA-0001', version => 2, data => PemsSync::Test::record_data('PFA-0001', monthlyRate => 2));
    $fake->replace_records('RIO', { 'PFA-0001' => "$stranger,$good", 'PFA-0002' => PemsSync::Pulls::raw(organizationCode => 'RIO2', pfaId => 'PFA-0002', version => 9) }, count => 1);
    my $job = $p->pull('RIO');
    is(counts($job), 'completed_with_failures updated 1 unchanged 1 quarantined 2', 'records of RIO2 in a listing of RIO');
    is(join(', ', map { "$_->{pfa_id}: $_->{reason}" } $p->quarantine('RIO')), join(', ', map { "$_: its organizationCode is that of another organization" } qw(PFA-0001 PFA-0002)), 'are in quarantine, both');
    is($t->mirror('RIO', 'PFA-0001')->{version}, 2, 'and not stored');
    is($t->mirror('RIO2', 'PFA-0001')->{version}, 1, 'anywhere');
    $p->pull('RIO');
    is(scalar($p->quarantine('RIO')), 2, 'a delta says nothing of them');
    is(scalar($p->problems(qr/RIO: 2 records of PEMS could not be stored/)), 1, 'pems_health() does');
    $p->pull('RIO', mode => 'full');
    is(scalar($p->quarantine('RIO')), 0, 'a full listing without them removes them');
};

subtest 'garbage' => sub {
    $p->organization('BAD', 20);
    my %texts = (
        'PFA-0001' => PemsSync::Pulls::raw(pfaId => 'PFA-0001', version => 2, data => \'{"text": "a\u0000b"}'),
        'PFA-0002' => PemsSync::Pulls::raw(pfaId => 'PFA-0002', version => 2, data => \'{"text": "\ud800"}'),
        'PFA-0003' => PemsSync::Pulls::raw(pfaId => 'PFA-0003', version => undef),
        'PFA-0004' => PemsSync::Pulls::raw(pfaId => 'PFA-0004', version => \'4294967296'),
        'PFA-0005' => PemsSync::Pulls::raw(pfaId => '../etc/passwd', version => 2),
        'PFA-0006' => PemsSync::Pulls::raw(pfaId => 'PFA-0006', version => 2, data => [ 1, 2 ]),
        'PFA-0007' => PemsSync::Pulls::raw(pfaId => 'PFA-0007', version => 3, data => { x => 3 }) . ',' . PemsSync::Pulls::raw(pfaId => 'PFA-0007', version => 2, data => { x => 2 }),
        'PFA-0008' => '17',
        'PFA-0009' => PemsSync::Pulls::raw(pfaId => 'PFA-0009', version => \'2.5'),
        'PFA-0010' => PemsSync::Pulls::raw(pfaId => 'PFA-0010', version => 2, data => \'{"n": 1e999999}'),
        'PFA-0011' => PemsSync::Pulls::raw(pfaId => 'PFA-0011', version => 2, data => \('{"a":' x 7000 . '1' . '}' x 7000)),
        'PFA-0012' => PemsSync::Pulls::raw(pfaId => 'PFA-0012', version => 2, deleted => 'yes'),
        'PFA-0013' => PemsSync::Pulls::raw(pfaId => 'PFA-0013', version => 2, updatedAt => 'yesterday', data => { x => 1 }),
        'PFA-0014' => PemsSync::Pulls::raw(pfaId => 'PFA-0014', version => 2, data => { x => 'y' x 70_000 }, organizationCode => 'ELSEWHERE'));
    my ($fault) = $fake->replace_records('BAD', \%texts);
    my $job = $p->pull('BAD', mode => 'full');
    is(counts($job), 'completed_with_failures updated 2 unchanged 7 quarantined 12', 'the page goes on') or diag explain $job;
    my %reasons = map { ($_->{pfa_id} // 'none') => $_ } $p->quarantine('BAD');
    is(join(' ', sort keys %reasons), '../etc/passwd PFA-0001 PFA-0002 PFA-0003 PFA-0004 PFA-0006 PFA-0009 PFA-0010 PFA-0011 PFA-0012 PFA-0014 none', 'who is in quarantine');
    is($t->mirror('BAD', 'PFA-0007')->{data}{x}, 3, 'of one that comes twice the higher version counts');
    is($t->mirror('BAD', 'PFA-0013')->{version}, 2, 'a time that cannot be read is no reason');
    cmp_ok(length $reasons{'PFA-0014'}{raw}, '<=', 65_536, 'the raw text is cut');
    like($reasons{'PFA-0001'}{raw}, qr/a\\u0000b/, 'raw text as PEMS wrote it');
    is($reasons{'PFA-0001'}{job_id}, $job->{id}, 'with the job');
    is($t->sql("SELECT count(*) FROM pfa_mirror WHERE organization_id = 'org-bad' AND deleted_at IS NOT NULL"), 0, 'none is taken for missing');
    $p->pull('BAD', mode => 'full');
    is(scalar($p->quarantine('BAD')), 12, 'a second listing adds no rows');
    $fake->clear_faults($fault);
    $fake->edit(map { { organizationCode => 'BAD', pfaId => sprintf('PFA-%04d', $_), data => { good => 1 }, version => 5 } } 1 .. 20);
    is(counts($p->pull('BAD')), 'completed updated 20', 'good versions');
    is(join(' ', map { $_->{pfa_id} // 'none' } $p->quarantine('BAD')), '../etc/passwd PFA-0014 none', 'remove the rows of their records');
    is($p->pull('BAD', mode => 'full')->{status}, 'completed', 'a full listing without the others');
    is(scalar($p->quarantine('BAD')), 0, 'removes theirs');
};

subtest 'the application refuses one record' => sub {
    $p->organization('APP', 60);
    $t->sql(q{ALTER TABLE pfa_mirror ADD CONSTRAINT sane CHECK (data ->> 'monthlyRate' IS DISTINCT FROM '-1')});
    $t->sql(<<'SQL');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.data ->> 'model' = 'forbidden' THEN RAISE EXCEPTION 'no such model' USING DETAIL = 'It is forbidden.'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON pfa_mirror FOR EACH ROW EXECUTE FUNCTION refuse();
SQL
    $p->in_pems('APP', $_->[0], $_->[1] => $_->[2]) for [ 'PFA-0003', monthlyRate => -1 ], [ 'PFA-0004', model => 'forbidden' ], [ 'NEW', model => 'forbidden' ],
      map { [ sprintf('PFA-%04d', $_), monthlyRate => 7 ] } 20 .. 30;
    my $job = $p->pull('APP');
    is("$job->{status} $job->{updated} $job->{quarantined}", 'completed_with_failures 11 3', 'the others go on') or diag explain $job;
    my %reasons = map { $_->{pfa_id} => $_->{reason} } $p->quarantine('APP');
    like($reasons{'PFA-0003'}, qr/violates check constraint "sane"/, 'what the database said');
    like($reasons{'PFA-0004'}, qr/no such model It is forbidden\./, 'and the trigger');
    like($reasons{'NEW'}, qr/no such model/, 'of a new record, too');
    is($p->pull('APP', mode => 'full')->{quarantined}, 3, 'a full pull: the same');
    is(scalar($p->problems(qr/The worker says/)), 0, 'that is no problem of the worker');
    is($t->mirror('APP', 'PFA-0003')->{version}, 1, 'the mirror keeps what it had');
    $p->in_pems('APP', $_) for qw(PFA-0003 PFA-0004 NEW);
    is($p->pull('APP')->{quarantined}, 0, 'good versions');
    is(scalar($p->quarantine('APP')), 0, 'empty it');
    # a record that is to be marked as deleted
    $t->sql(q{CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.deleted_at IS NOT NULL AND NEW.pfa_id IN ('PFA-0005', 'PFA-0006') THEN RAISE EXCEPTION 'it is needed'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER keep BEFORE UPDATE ON pfa_mirror FOR EACH ROW EXECUTE FUNCTION keep();});
    $fake->forget('APP', 'PFA-0005', 'PFA-0007');
    $fake->edit({ organizationCode => 'APP', pfaId => 'PFA-0006', delete => $true });
    $job = $p->pull('APP', mode => 'full');
    is("$job->{status} $job->{deleted} $job->{quarantined}", 'completed_with_failures 1 2', 'one that may not be deleted does not keep the others') or diag explain $job;
    is(join(' ', map { $_->{pfa_id} } $p->quarantine('APP')), 'PFA-0005 PFA-0006', 'they are in quarantine');
    $job = $p->pull('APP', pfa_id => 'PFA-0005');
    is(counts($job), 'completed_with_failures quarantined 1', 'asked for by itself: the same');
    $t->sql('DROP TRIGGER keep ON pfa_mirror');
    is($p->pull('APP', mode => 'full')->{deleted}, 2, 'when it may, they are deleted');
    is(scalar($p->quarantine('APP')), 0, 'and quarantine is empty');
    $t->sql('DROP TRIGGER refuse ON pfa_mirror; ALTER TABLE pfa_mirror DROP CONSTRAINT sane');
};

# ---------- many ----------

subtest '10,001 records with one timestamp' => sub {
    $t->add_organization('TIE');
    $t->set(pull_page_size => 500);
    $t->wait_for("SELECT current_setting('pems_sync.pull_page_size') = '500'");
    $p->many_in_pems('TIE', 'PFA-', 10_001, updatedAt => '2026-01-01T00:00:00Z');
    my $job = $p->pull('TIE');
    is(counts($job), 'completed created 10001', 'all arrive');
    is($job->{pages}, 21, 'in 21 pages');
    is($p->watermark('TIE'), $t->sql("SELECT '2026-01-01T00:00:00Z'::timestamptz"), 'the watermark is that time');
    $p->in_pems('TIE', 'PFA-5000', { updatedAt => '2026-01-01T00:00:00Z' }, monthlyRate => 1);
    is(counts($p->pull('TIE')), 'completed updated 1 unchanged 10000', 'one more with the same time is found');
    $p->same_as_pems('TIE');
    $t->set(pull_page_size => 40);
    $t->wait_for("SELECT current_setting('pems_sync.pull_page_size') = '40'");
};

# ---------- who is told ----------

subtest 'listeners' => sub {
    $t->add_organization('HEAR');
    my $listener = $t->node->background_psql('postgres', on_error_stop => 0);
    $listener->query('LISTEN pems_sync');
    $p->many_in_pems('HEAR', 'PFA-', 120);
    my $job = $p->pull('HEAR');
    $fake->edit(map { { organizationCode => 'HEAR', pfaId => sprintf('PFA-%04d', $_), changes => { monthlyRate => 1 } } } 1, 2);
    $fake->edit({ organizationCode => 'HEAR', pfaId => 'PFA-0003', delete => $true });
    my $delta = $p->pull('HEAR');
    my $single = $p->pull('HEAR', pfa_id => 'PFA-0004');
    my @told = map { $json->decode($_) } $listener->query('SELECT 1') . $listener->{stderr} =~ /Asynchronous notification "pems_sync" with payload "(\{.*?\})" received/g;
    @told = map { $json->decode($_) } $listener->query('SELECT 1;') =~ /payload "(\{.*?\})" received/g if !@told;
    $listener->quit;
    my @pulled = grep { $_->{type} eq 'SYNC_PULLED' } @told;
    is(join(' ', map { "$_->{jobId} $_->{status}" } @pulled), join(' ', map { "$_->{id} completed" } $job, $delta, $single), 'SYNC_PULLED for each job');
    my @mirror = grep { $_->{type} eq 'SYNC_MIRROR' } @told;
    is(scalar(@mirror), 4, 'SYNC_MIRROR for each page that changed something');
    is(join(' ', sort map { @{ $_->{pfaIds} // [] } } @mirror[ 0 .. 2 ]), join(' ', map { sprintf 'PFA-%04d', $_ } 1 .. 120), 'all new ones');
    is(join(' ', sort @{ $mirror[3]{pfaIds} }), 'PFA-0001 PFA-0002 PFA-0003', 'those that changed');
    is(scalar(grep { $_->{organizationId} ne 'org-hear' || $_->{at} !~ /^2\d{3}-/ } @told), 0, 'with organization and time');
};

$t->finish;
