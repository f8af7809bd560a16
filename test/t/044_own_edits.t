# A user is not in conflict with himself, whatever PEMS makes of what he wrote, and whoever changed something else meanwhile.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;

my $t = PemsSync::Test->new('own', settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 1, poll_interval => '1h' });
$t->add_organization('RIO');
$t->sql(q{INSERT INTO pems_field (name, label, type) VALUES ('extra', 'Extra', 'json')});
my $fake = $t->fake;
my $json = JSON::PP->new->canonical;

# Drafts on the version that the mirror has now; the first is committed, and synced.
sub drafts_of_which_the_first_is_synced
{
    my ($pfa_id, @edits) = @_;
    my @ids = $t->edits('RIO', map { [ $pfa_id, @$_ ] } @edits);
    $t->commit('RIO', [ $ids[0] ]);
    ok($t->wait_status($ids[0], 'synced'), 'the first edit is synced');
    return @ids;
}

# A state of the record that another program puts into the mirror.
sub put_into_mirror
{
    my ($pfa_id, $version, %more) = @_;
    my $data = $json->encode(PemsSync::Test::record_data($pfa_id, %more));
    $t->sql("UPDATE pfa_mirror SET version = $version, data = \$json\$$data\$json\$ WHERE pfa_id = '$pfa_id'");
    return;
}

# The setting is read again before this returns.
sub always_refresh
{
    my ($value) = @_;
    $t->set(refresh_after_write => $value);
    my $n = 0;
    return $t->wait_until(sub {
        my $pfa_id = "REFRESH-$value-" . ++$n;
        $t->load('RIO', $pfa_id);
        $t->wait_status($t->commit_edit('RIO', $pfa_id, { monthlyRate => 1 }), 'synced');
        return ($value eq 'always') == (grep { $_->{method} eq 'GET' } $fake->requests(pfaId => $pfa_id));
    }, what => "refresh_after_write $value");
}

subtest 'a DELETE after an own edit, when PEMS has stamped the record' => sub {
    $t->load('RIO', 'STAMPED', 'CHANGED');
    for my $case ([ 'STAMPED', {}, 'synced' ], [ 'CHANGED', { description => 'not the author' }, 'conflict' ])
    {
        my ($pfa_id, $other, $expected) = @$case;
        my ($edit, $delete) = drafts_of_which_the_first_is_synced($pfa_id, [ { monthlyRate => 4000 } ], [ undef, operation => 'DELETE', reason => 'x' ]);
        # as a pull brings it
        put_into_mirror($pfa_id, 2, monthlyRate => 4000, lastModified => '2026-01-01T00:00:00Z', lastModifiedBy => 'pems_sync', %$other);
        $t->commit('RIO', [$delete]);
        ok($t->wait_status($delete, $expected), "$pfa_id: $expected");
    }
    is($fake->record('RIO', 'STAMPED')->{deleted}, JSON::PP::true, 'PEMS has deleted it');
};

subtest 'an edit after an own edit whose value PEMS has rounded' => sub {
    always_refresh('always');
    $t->load('RIO', 'ROUNDED');
    $fake->fault({ pfaId => 'ROUNDED', count => 1, call => 'update', roundNumbers => JSON::PP::true });
    my ($first, $second) = drafts_of_which_the_first_is_synced('ROUNDED', [ { monthlyRate => 4000.4 } ], [ { monthlyRate => 4200 } ]);
    is($t->mirror('RIO', 'ROUNDED')->{data}{monthlyRate}, 4000, 'the mirror has what PEMS made of it');
    $t->commit('RIO', [$second]);
    ok($t->wait_status($second, 'synced'), 'the second edit is synced');
    is($fake->record('RIO', 'ROUNDED')->{data}{monthlyRate}, 4200, 'PEMS has its value');
    always_refresh('auto');
};

subtest 'an edit after an own edit, when PEMS counts from an older version again' => sub {
    $t->load('RIO', 'RESTORED');
    put_into_mirror('RESTORED', 2, description => 'two');
    put_into_mirror('RESTORED', 3, description => 'three');
    put_into_mirror('RESTORED', 1);
    my ($first, $second) = drafts_of_which_the_first_is_synced('RESTORED', [ { monthlyRate => 4000 } ], [ { monthlyRate => 4200 } ]);
    $t->commit('RIO', [$second]);
    ok($t->wait_status($second, 'synced'), 'the second edit is synced');
};

subtest 'an edit of a member of an object after an own edit of it, when somebody changed another member' => sub {
    $t->load('RIO', 'MEMBER', 'SAME');
    for my $pfa_id ('MEMBER', 'SAME')
    {
        $fake->edit({ organizationCode => 'RIO', pfaId => $pfa_id, changes => { extra => { a => 1, b => 1 } } });
        $t->mirror_from_pems('RIO', $pfa_id);
    }
    for my $case ([ 'MEMBER', { b => 9 }, 'synced' ], [ 'SAME', { a => 9 }, 'conflict' ])
    {
        my ($pfa_id, $theirs, $expected) = @$case;
        my ($first, $second) = drafts_of_which_the_first_is_synced($pfa_id, [ { extra => { a => 2 } } ], [ { extra => { a => 3 } } ]);
        $fake->edit({ organizationCode => 'RIO', pfaId => $pfa_id, changes => { extra => $theirs } });
        $t->mirror_from_pems('RIO', $pfa_id);
        $t->commit('RIO', [$second]);
        ok($t->wait_status($second, $expected), "$pfa_id: $expected");
    }
    is_deeply($fake->record('RIO', 'MEMBER')->{data}{extra}, { a => 3, b => 9 }, 'PEMS has both');
};

$t->node->stop('fast');
done_testing();
