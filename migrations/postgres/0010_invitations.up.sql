-- Whoever accepts an invitation belongs to no organization yet: its token finds it.

CREATE POLICY invitations_unscoped_select ON invitations FOR SELECT
    USING (current_setting('app.sentinel_unscoped', true) = 'on');
