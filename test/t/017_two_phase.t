# COMMIT PREPARED announces nothing.  What it made ready is found all the same: with the next poll, and while the worker is at work
# anyway; also where it stands ahead of what was sent meanwhile, and after a restart in between.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::Test;
use Test::More;

my $t = PemsSync::Test->new('two_phase', settings => { rate_limit => 0, poll_interval => '1s' }, conf => "max_prepared_transactions = 5\n");
$t->add_organization('RIO');
my @records = $t->load_many('RIO', 'PFA-', 40);

sub draft { return ($t->edits('RIO', [ shift @records, { monthlyRate => 1 } ]))[0] }

sub is_synced { return $t->sql("SELECT sync_status = 'synced' FROM pfa_modification WHERE id = '$_[0]'") eq 't' }

sub prepare
{
    my ($id) = @_;
    $t->sql('BEGIN; ' . PemsSync::Test::commit_statement('RIO', [$id]) . "; PREPARE TRANSACTION '$id'");
    return;
}

sub is_ahead
{
    my ($id, $other) = @_;
    return $t->sql("SELECT (a.scheduled_at, a.commit_seq) < (b.scheduled_at, b.commit_seq) FROM pfa_write_queue a, pfa_write_queue b "
          . "WHERE a.modification_id = '$id' AND b.modification_id = '$other'") eq 't';
}

for my $case (
    [ 'of an idle worker', sub { } ],
    [ 'behind which others were sent', sub { my $other = draft(); $t->commit('RIO', [$other]); ok($t->wait_status($other, 'synced'), 'another edit passes it') } ],
    [ 'that a restart of the server survives', sub { $t->node->restart; ok($t->wait_for('SELECT pid IS NOT NULL FROM pems_worker'), 'the server is back') } ])
{
    my ($name, $meanwhile) = @$case;
    my $id = draft();
    prepare($id);
    $meanwhile->();
    is($t->sql("SELECT sync_status FROM pfa_modification WHERE id = '$id'"), 'draft', 'what is prepared is not queued');
    $t->sql("COMMIT PREPARED '$id'");
    ok($t->wait_status($id, 'synced'), "a prepared edit $name is sent with the next poll");
}

# The poll is an hour away; a worker that is busy looks about once a second.
$t->set(poll_interval => '1h');
my ($late, $other) = (draft(), draft());
prepare($late);
$t->commit('RIO', [$other]);
ok($t->wait_status($other, 'synced'), 'another edit passes it');
$t->sql("COMMIT PREPARED '$late'");
ok(is_ahead($late, $other), 'the prepared one stands ahead of it');
ok($t->wait_until(sub { $t->commit('RIO', [ draft() ]) if @records > 1; sleep 1; return is_synced($late) }, what => 'the prepared edit'),
    'it is sent with further edits');

# A claim that took long by chance does not put off for long what is to be found without being announced.
$t->set(poll_interval => '1s');
my $unlucky = draft();
prepare($unlucky);
my $session = $t->node->background_psql('postgres');
$session->query_safe('BEGIN');
$session->query_safe('LOCK TABLE pems_claim');
ok($t->wait_for(q{SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'pems_claim'::regclass AND NOT granted)}), 'the worker waits for a lock');
sleep 1;
$session->query_safe('COMMIT');
$session->quit;
$t->sql("COMMIT PREPARED '$unlucky'");
ok($t->wait_until(sub { is_synced($unlucky) }, what => 'the prepared edit', timeout => 20), 'a prepared edit is sent soon after a claim that took long');

my $dropped = draft();
prepare($dropped);
$t->sql("ROLLBACK PREPARED '$dropped'");
is($t->sql("SELECT sync_status FROM pfa_modification WHERE id = '$dropped'"), 'draft', 'what is rolled back stays a draft');

$t->finish;
