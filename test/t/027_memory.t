# Memory of the worker: what it has in hand is bounded; records that are too large are not read; an item that cannot be
# worked on fails alone.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::Test;
use Test::More;
use Time::HiRes ();

my $failpoints = PemsSync::Test::has_failpoints();
my $t = PemsSync::Test->new('memory', ($failpoints ? (failpoints => 1) : ()),
    settings => { rate_limit => 0, retry_delay => '100ms', poll_interval => '1h', max_in_hand => '200kB', max_record_size => '100kB' });
$t->add_organization('RIO');
my $fake = $t->fake;
my @pfa_ids = $t->load_many('RIO', 'PFA-', 40);
my $position = $t->log_position;
my $worker = $t->worker->{pid};

sub stop_sending  { $t->set(enabled => 'off'); return ok($t->wait_worker(state => 'disabled'), 'nothing is sent for now') }

sub count_of
{
    my ($status, @ids) = @_;
    return $t->sql("SELECT count(*) FROM pfa_modification WHERE sync_status = '$status' AND id = ANY (" . PemsSync::Test::text_array(\@ids) . ')');
}

# ---- what is in hand ----

# A text that no compression makes small.
sub noise { my ($bytes) = @_; return join '', map { chr(32 + int rand 95) =~ s/["\\]/x/r } 1 .. $bytes }

stop_sending();
$t->sql(q(UPDATE pems_field SET max_length = NULL WHERE name = 'description'));
my @large = $t->edits('RIO', map { [ $_, { description => noise(60_000) } ] } @pfa_ids[ 0 .. 9 ]);
my @small = $t->edits('RIO', map { [ $_, { monthlyRate => 1 } ] } @pfa_ids[ 10 .. 29 ]);
$t->commit('RIO', [ @large, @small ]);
$t->set(enabled => 'on');
ok($t->wait_until(sub { count_of('synced', @large, @small) == 30 }, what => 'all'), 'many large edits are synced');
is($t->sql('SELECT max(attempt) FROM pfa_write_queue'), '1', 'what there was no room for has used up no attempt');

# one that is larger than all that may be in hand goes alone
my $one = $t->edit('RIO', $pfa_ids[30], { description => noise(230_000) });
my @more = $t->edits('RIO', map { [ $_, { monthlyRate => 2 } ] } @pfa_ids[ 10 .. 29 ]);
$t->commit('RIO', [ $one, @more ]);
ok($t->wait_until(sub { count_of('synced', $one, @more) == 21 }, what => 'all'), 'one that is larger than that is synced, too');
$t->is_calm('with nothing in hand');

# what is put back while others are under way does not make the worker spin
my ($fault) = $fake->fault({ delayMs => 2500 });
@large = $t->edits('RIO', map { [ $_, { description => noise(90_000) } ] } @pfa_ids[ 0 .. 5 ]);
$t->commit('RIO', \@large);
ok($t->wait_until(sub { $t->worker->{in_flight} > 0 }, what => 'a request'), 'large edits are under way');
Time::HiRes::sleep(0.5);
$t->is_calm('while there is no room');
cmp_ok($t->worker->{in_flight}, '<', 4, 'the others wait');
$fake->clear_faults($fault);
ok($t->wait_until(sub { count_of('synced', @large) == 6 }, what => 'all'), 'until there is room');

# ---- a record that is too large ----

stop_sending();
my ($big, $other) = $t->edits('RIO', map { [ $_, { monthlyRate => 3 } ] } @pfa_ids[ 31, 32 ]);
$t->commit('RIO', [ $big, $other ]);
# What another program does in PEMS, and a read sync brings.
sub changed_in_pems
{
    my ($pfa_id, $version, $model) = @_;
    $fake->edit({ organizationCode => 'RIO', pfaId => $pfa_id, changes => { model => $model } });
    return $t->sql("UPDATE pfa_mirror SET version = $version, data = data || jsonb_build_object('model', '$model') WHERE pfa_id = '$pfa_id'");
}
changed_in_pems($pfa_ids[31], 2, 'x' x 200_000);
$t->set(enabled => 'on');
ok($t->wait_status($big, 'failed'), 'an edit is not compared with a record that is too large');
is($t->item($big)->{error_code}, 'RECORD_TOO_LARGE', 'it is a dead letter of that kind');
is($t->sql("SELECT string_agg(event_type, ' ' ORDER BY at) FROM pems_audit_log WHERE modification_id = '$big'"), 'COMMITTED NOT_SENT', 'and nothing was sent');
ok($t->wait_status($other, 'synced'), 'another edit is synced');
changed_in_pems($pfa_ids[31], 3, 'small');
$t->retry([$big]);
ok($t->wait_status($big, 'synced'), 'when the record is smaller it can be retried');

# ---- a record that is nested too deeply ----

stop_sending();
my $deep = $t->commit_edit('RIO', $pfa_ids[39], { monthlyRate => 3 });
changed_in_pems($pfa_ids[39], 2, 'before it was deep');
$t->sql("UPDATE pfa_mirror SET data = data || jsonb_build_object('notes', (repeat('[', 600) || repeat(']', 600))::jsonb) WHERE pfa_id = '$pfa_ids[39]'");
$t->set(enabled => 'on');
ok($t->wait_status($deep, 'failed'), 'an edit is not compared with a record that is nested too deeply');
is($t->item($deep)->{error_code}, 'RECORD_TOO_DEEP', 'it is a dead letter of that kind');
is($t->item($deep)->{retry_count}, 0, 'at once');
is($t->sql("SELECT string_agg(event_type, ' ' ORDER BY at) FROM pems_audit_log WHERE modification_id = '$deep'"), 'COMMITTED NOT_SENT', 'and nothing was sent');
$t->sql("UPDATE pfa_mirror SET data = data - 'notes' WHERE pfa_id = '$pfa_ids[39]'");
$t->retry([$deep]);
ok($t->wait_status($deep, 'synced'), 'when the record is not any more it can be retried');

# ---- an error of the worker's own ----

SKIP:
{
    skip 'no server with failpoints', 1 if !$failpoints;
    my $number = 33;
    for my $case ([ deciding => 'NOT_SENT', 0 ], [ composing => 'NOT_SENT', 0 ], [ judging => 'WRITE_ATTEMPT', 1 ])
    {
        my ($place, $event, $sent) = @$case;
        subtest "an error while $place" => sub {
            my $pfa_id = $pfa_ids[ $number++ ];
            $t->arm($place, 'error');
            my $id = $t->commit_edit('RIO', $pfa_id, { monthlyRate => 4 });
            ok($t->reached($place), 'the place is reached');
            ok($t->wait_status($id, 'failed'), 'the edit is a dead letter');
            my $item = $t->item($id);
            is($item->{error_code}, 'INTERNAL_ERROR', 'of that kind');
            like($item->{last_error}, qr/failpoint $place/, 'and says why');
            is(scalar($fake->changes(pfaId => $pfa_id, by => 'client')), $sent, $sent ? 'PEMS has it' : 'PEMS has not heard of it');
            is($t->sql("SELECT string_agg(event_type, ' ' ORDER BY at) FROM pems_audit_log WHERE modification_id = '$id'"), "COMMITTED $event", 'the audit log says so');
            $t->retry([$id]);
            ok($t->wait_status($id, 'synced'), 'it can be retried');
            is(scalar($fake->changes(pfaId => $pfa_id, by => 'client')), 1, 'and PEMS has it once');
        };
    }
}

is($t->worker->{pid}, $worker, 'it is the same worker');
unlike($t->log_since($position), qr/PANIC|was terminated|exited with exit code/, 'which lived through it all');
$t->finish;
