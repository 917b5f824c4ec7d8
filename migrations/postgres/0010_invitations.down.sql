DROP POLICY invitations_unscoped_select ON invitations;
