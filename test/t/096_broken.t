# The code broken on purpose, one thing at a time: the checker must object, and name what does not hold.  A
# checker that is content whatever happens would prove nothing.
#
# Each case has a database of its own, an organization in it, and a short workload that certainly
# meets what is broken.  The workload runs twice: on one database as it is, and the checker is content; on another
# with one function of the extension replaced.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use IPC::Run;
use JSON::PP;
use PemsSync::Test;
use Test::More;

my @cases = qw(fence look order version);
my @databases = map { ("${_}_sound", "${_}_broken") } @cases;
my $t = PemsSync::Test->new('broken', databases => [ 'postgres', @databases ],
    settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 1, poll_interval => '1s' },
    conf => 'max_worker_processes = 16');
my $fake = $t->fake;
my ($checker) = $t->checker_command;

sub code_of { return uc $_[0] =~ s/_/-/r }

# Replace a piece of a function's text.  That the piece is there is part of the test: where the code looks
# different today, nothing would be broken, and the case would prove nothing.
sub break_code
{
    my ($db, $function, $piece, $instead) = @_;
    my $before = $t->sql("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = '$function'", db => $db);
    (my $after = $before) =~ s/\Q$piece\E/$instead/g;
    isnt($after, $before, "$db: $function can be broken");
    $t->sql($after, db => $db);
    return is($t->sql("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = '$function'", db => $db), $after, "$db: and is");
}

# What the checker says about one database and its organization: exit status, invariants, text.
sub examine
{
    my ($db) = @_;
    my $records = $t->directory . "/records-$db.json";
    $fake->dump($records);
    my ($out, $err) = ('', '');
    IPC::Run::run([ $checker, '--database', $t->node->connstr($db), '--log', $fake->log_file, '--records', $records, '--only', code_of($db) ],
        '>', \$out, '2>', \$err);
    return ($? >> 8, join(' ', $out =~ /^not ok \d+ - (\S+)/mg), $out . $err);
}

sub commit_edit { my ($db, @edit) = @_; return $t->commit_edit(code_of($db), @edit) }

sub fault { my ($db, %fault) = @_; return $fake->fault({ organizationCode => code_of($db), count => 1, %fault }) }

# Wait for so many requests of an organization.
sub wait_requests
{
    my ($db, $count) = @_;
    return ok($t->wait_until(sub { $fake->requests(organizationCode => code_of($db)) >= $count }, what => "$count requests of $db"),
        "$db: PEMS is asked");
}

# ---- what happens, and how it is broken ----

# Somebody takes up the items while an answer is on its way; the answer then belongs to an older claim.
sub fence
{
    my ($db) = @_;
    fault($db, delayAfterApplyMs => 1500);
    my $id = commit_edit($db, 'PFA-1', { monthlyRate => 1 });
    ok($t->wait_until(sub { $fake->record(code_of($db), 'PFA-1')->{version} == 2 }, what => 'the write'), "$db: a write is under way");
    is($t->sql('SET ROLE pems_sync_worker; SELECT _pems_put_back_orphans()', db => $db), '1', "$db: another worker takes it up");
    wait_requests($db, 1);
    return $t->wait_status($id, 'synced', db => $db);
}

# The answer to a write is lost.
sub look
{
    my ($db) = @_;
    fault($db, applyThenDrop => JSON::PP::true);
    my $id = commit_edit($db, 'PFA-1', { monthlyRate => 1 });
    wait_requests($db, 2);
    return $t->wait_for("SELECT status IN ('completed', 'failed') FROM pfa_write_queue WHERE modification_id = '$id'", db => $db, timeout => 60);
}

# Two edits of one record, and the first is slow and fails at first.
sub order
{
    my ($db) = @_;
    fault($db, delayMs => 300, status => 503);
    my $code = code_of($db);
    my @ids = $t->edits($code, [ 'PFA-1', { monthlyRate => 1 } ], [ 'PFA-1', { dor => 'PROJECT' } ]);
    $t->commit($code, \@ids);
    return $t->wait_for("SELECT bool_and(status IN ('completed', 'failed')) FROM pfa_write_queue", db => $db, timeout => 60);
}

# Somebody else changed another field: the edit is merged, and sent on the version that PEMS has now.
sub version
{
    my ($db) = @_;
    $fake->edit({ organizationCode => code_of($db), pfaId => 'PFA-1', changes => { dor => 'PROJECT' } });
    my $id = commit_edit($db, 'PFA-1', { monthlyRate => 1 });
    wait_requests($db, 3);
    return $t->wait_for("SELECT status IN ('completed', 'failed') FROM pfa_write_queue WHERE modification_id = '$id'", db => $db, timeout => 60);
}

# No item is ever marked as waiting for its turn.
my $no_turns = <<'SQL';
CREATE FUNCTION never_wait() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN NEW.waits_for := nullif(NEW.waits_for, 'turn'); RETURN NEW; END$$;
CREATE TRIGGER never_wait BEFORE INSERT OR UPDATE ON pfa_write_queue FOR EACH ROW EXECUTE FUNCTION never_wait();
SQL

# case => [ what happens, what is broken ([function, piece, instead], or SQL), invariants, finding ]
my %broken = (
    fence => [ \&fence, [ [ '_pems_record_items', 'q.claim_token = r.claim_token', 'true' ], [ '_pems_record_items', q{q.status = 'processing'}, 'true' ] ],
        qr/\bI6\b/, qr/request \S+:1 is in the audit log 2 times/ ],
    look => [ \&look, [ [ '_pems_record_items', 'next_request = r.next_request, outcome_unknown = r.outcome_unknown',
                          q{next_request = 'write', outcome_unknown = false} ] ],
        qr/\bI4\b/, qr/:2 was written again, without a look after \S+:1/ ],
    # items do not wait for their turn, neither where they are queued nor where they are claimed
    order => [ \&order, [ [ '_pems_claim', 'EXISTS (SELECT FROM public.pfa_write_queue e', 'false AND EXISTS (SELECT FROM public.pfa_write_queue e' ], $no_turns ],
        qr/\bI5\b/, qr/request \S+:1 was sent while item \S+, committed earlier, was not finished/ ],
    version => [ \&version, [ [ '_pems_claim', 't.base_version, t.mirror_version,', 't.base_version, t.base_version,' ] ],
        qr/\bI3\b/, qr/was sent on version 1, although \S+ had found version 2/ ]);

for my $db (@databases)
{
    my ($case, $sound) = $db =~ /^(\w+)_(sound|broken)$/;
    my ($workload, $changes, $invariants, $finding) = @{ $broken{$case} };
    $t->add_organization(code_of($db), db => $db);
    $t->load(code_of($db), 'PFA-1');
    if ($sound eq 'broken')
    {
        ref $_ ? break_code($db, @$_) : $t->sql($_, db => $db) for @$changes;
    }
    ok($workload->($db), "$db: it comes to an end");
    ok($t->quiet(db => $db), "$db: all is quiet");
    my ($status, $objections, $text) = examine($db);
    if ($sound eq 'sound')
    {
        is("$status $objections", '0 ', "$db: the checker is content") or diag($text);
    }
    else
    {
        is($status, 1, "$db: the checker objects");
        like($objections, $invariants, "$db: to the right thing") or diag($text);
        like($text, $finding, "$db: and says what");
    }
}

$t->node->stop('fast');
done_testing();
