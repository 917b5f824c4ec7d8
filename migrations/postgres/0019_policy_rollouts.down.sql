DROP TABLE policy_difference_samples;
DROP TABLE policy_differences;
DROP TABLE policy_rollout_counts;
DROP TABLE policy_rollouts;
